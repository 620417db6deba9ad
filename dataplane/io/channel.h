// The control channel: a Unix stream socket with framed protobuf messages (api/framing.h,
// api/dataplane.proto).
//
// Two threads, no worker among them. One polls the sockets and answers switches and statistics at once; the
// other builds what takes long, in order. Replies leave in the order of their requests on each connection. Up
// to 8 clients; a message that does not parse is answered with a failure and the connection closed, and harms
// nothing else. Built and destroyed by the main thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/api/result.h"
#include "dataplane/io/channel_client.h"
#include "dataplane/io/descriptor.h"
#include "dataplane/io/request_handler.h"

namespace detour::io {

class Channel {
  public:
    /// Listens on `path`, mode 0600; a socket left behind by a dead process is replaced. `handler` outlives
    /// the channel. Error kRefused when a live process listens there, kSystem.
    [[nodiscard]] static api::Result<std::unique_ptr<Channel>> open(const std::string& path,
                                                                    RequestHandler& handler);
    /// Ends both threads, closes every connection and removes the socket.
    ~Channel();
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;

  private:
    struct Job {
        std::uint64_t client = 0;
        std::uint64_t slot = 0;
        std::string request;
    };
    struct Done {
        std::uint64_t client = 0;
        std::uint64_t slot = 0;
        std::string reply;
    };

    Channel(std::string path, Descriptor listener, Descriptor wake, RequestHandler& handler);
    void run();
    void build();
    void accept_client();
    void serve(ChannelClient& client, short events);
    void take_requests(ChannelClient& client);
    void take_results();
    void wake() const noexcept;

    const std::string path_;
    Descriptor listener_;
    Descriptor wake_;
    RequestHandler& handler_;
    std::vector<std::unique_ptr<ChannelClient>> clients_;  // polling thread only
    std::uint64_t next_client_ = 1;                        // polling thread only

    std::mutex mutex_;
    std::condition_variable work_;
    std::deque<Job> jobs_;   // guarded by mutex_; bounded by the clients' slots
    std::deque<Done> done_;  // guarded by mutex_
    bool ending_ = false;    // guarded by mutex_

    std::thread poller_;
    std::thread builder_;
};

}  // namespace detour::io

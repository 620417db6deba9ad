// Writes one file durably, again and again, on a thread that is not the loop.
//
// At most one write is under way; of what comes meanwhile only the newest content is written, since it
// includes what came before, and all who wait are told together. Contents reach the disk in the order of the
// calls. Thread: called on the io_context's; callbacks run there, never inside write(). None runs after
// destruction.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "dataplane/api/result.h"

namespace boost::asio {
class io_context;
class thread_pool;
}  // namespace boost::asio

namespace detour::app {

class DurableWriter {
  public:
    using Done = std::function<void(const api::Result<void>&)>;
    /// How the file is written: write_durably(), or a test's own. Called on a thread of the pool.
    using Write = std::function<api::Result<void>(const std::string& path, const std::string& content)>;

    /// `pool` and `io` must outlive the writer.
    DurableWriter(boost::asio::io_context& io, boost::asio::thread_pool& pool, std::string path, Write write);
    ~DurableWriter();
    DurableWriter(const DurableWriter&) = delete;
    DurableWriter& operator=(const DurableWriter&) = delete;

    /// Makes the content, on a thread of the pool too.
    using Content = std::function<std::string()>;

    /// `done` may be empty. Errors are those of `Write`.
    void write(Content content, Done done);
    void write(std::string content, Done done);
    [[nodiscard]] bool idle() const;

  private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace detour::app

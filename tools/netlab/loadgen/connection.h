// One client connection: its socket, what it sends, and what is remembered of it for the log.
//
// One thread. The connection owns its descriptor; the caller watches it with epoll (edge-triggered, both
// directions) and calls on_event() and on_tick(). Times are CLOCK_REALTIME ns, so that they compare with the
// cut's.
#pragma once

#include <cstdint>
#include <string>

#include "tools/netlab/loadgen/answer.h"
#include "tools/netlab/loadgen/options.h"

namespace detour::netlab {

enum class Kind : std::uint8_t { kNew, kUpload, kSending, kWaiting, kDownloading, kIdle };
enum class Result : std::uint8_t { kOpen, kOk, kReset, kRefused, kTimeout, kClosed, kError, kStopped };

const char* to_string(Kind kind);
const char* to_string(Result result);

std::uint64_t realtime_ns();

/// What an outcome is made of; everything that the log line says.
struct Record {
    std::uint64_t id = 0;
    Kind kind = Kind::kNew;
    std::uint32_t slot = 0;  ///< which long-lived client; 0 for others
    Endpoint local;
    Endpoint target;
    std::uint64_t start = 0;
    std::uint64_t connected = 0;  ///< 0: never
    std::uint64_t first = 0;      ///< first byte of an answer
    std::uint64_t last_in = 0;    ///< latest byte
    std::uint64_t done = 0;
    Result result = Result::kOpen;
    int error = 0;  ///< errno
    std::uint64_t bytes_in = 0;
    std::uint64_t bytes_out = 0;
    std::uint64_t requests = 0;
    std::uint64_t longest_wait = 0;  ///< ns from a request to its answer
    std::uint32_t syn_retries = 0;
    std::uint32_t retransmits = 0;
};

class Connection {
  public:
    Connection(const Options& options, Record record) : options_(options), record_(record) {}
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    /// Binds and connects. False: over at once, the record says how.
    bool open();
    /// Something happened on the socket. False: over.
    bool on_event();
    /// Now and then: sends what is due and looks at deadlines. False: over.
    bool on_tick(std::uint64_t now);
    /// Ends it, from our side: an established connection that did not finish is aborted, so that nothing
    /// lingers.
    void finish(Result result, int error);

    [[nodiscard]] int fd() const { return fd_; }
    [[nodiscard]] const Record& record() const { return record_; }
    [[nodiscard]] const AnswerReader& answer() const { return answer_; }
    [[nodiscard]] bool long_lived() const { return record_.kind >= Kind::kSending; }

  private:
    bool on_connected();
    bool read_all();
    bool on_closed();
    bool on_answers(std::uint32_t count, std::uint64_t now);
    bool request(const std::string& text);
    bool flush();
    [[nodiscard]] bool fail(int error);
    [[nodiscard]] bool overdue(std::uint64_t now) const;

    const Options& options_;
    Record record_;
    AnswerReader answer_;
    int fd_ = -1;
    std::string unsent_;             ///< rest of a request that the socket did not take
    std::uint64_t body_left_ = 0;    ///< of an upload
    std::uint64_t outstanding_ = 0;  ///< requests without an answer
    std::uint64_t oldest_ = 0;       ///< when the oldest of them was sent, at most one send_every too early
    std::uint64_t next_send_ = 0;
};

}  // namespace detour::netlab

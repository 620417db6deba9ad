// What happened, in order: a bounded ring in memory and, behind it, files on disk.
//
// append() and page() on one thread (the loop); they never wait for the disk: a thread of its own writes the
// lines (newline-delimited JSON, one control::Event each). The queue to it is bounded: when the disk can't
// follow, lines are left out of the file, never of memory, and counted. `events.ndjson` is renamed to
// `events.1.ndjson`, … at `file_bytes`; at most `files` are kept. At start the last events are read back, so
// that sequences go on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "control/api/messages.h"

namespace detour::control {

struct EventLogOptions {
    std::string folder;                  ///< empty: memory alone
    std::size_t ring = 10'000;           ///< events in memory
    std::size_t file_bytes = 8U << 20U;  ///< of one file
    std::size_t files = 4;
    std::size_t queue = 4'096;  ///< lines waiting for the disk
};

class EventLog {
  public:
    /// Makes the folder where it is missing. A damaged line is skipped. Error kSystem: can't make or open.
    [[nodiscard]] static api::Result<EventLog> open(EventLogOptions options);
    EventLog(EventLog&&) noexcept;
    EventLog& operator=(EventLog&&) noexcept;
    /// Writes what waits (at most 2 s) and closes.
    ~EventLog();

    /// Sets `sequence`, and `time` where it is zero, and returns the sequence.
    std::uint64_t append(Event event);
    /// As Handlers::events.
    [[nodiscard]] EventPage page(std::optional<std::uint64_t> since, std::size_t limit) const;
    [[nodiscard]] std::uint64_t last() const noexcept;
    /// Lines that the file lacks.
    [[nodiscard]] std::uint64_t not_written() const noexcept;
    /// Returns when all that was appended is in the file (not fsynced), or has been given up. For tests and
    /// exit.
    void flush();

  private:
    struct Impl;
    explicit EventLog(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace detour::control

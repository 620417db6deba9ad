// The load generator's two outputs: a JSON line per ended connection in a file, and running totals on stdout.
//
// One thread. Lines are collected and written by flush(). Times in the file: `start_ns` is CLOCK_REALTIME,
// the others are microseconds from it, null when it never came to that.
#pragma once

#include <cstdint>
#include <cstdio>
#include <map>
#include <string>

#include "tools/netlab/loadgen/connection.h"

namespace detour::netlab {

class Log {
  public:
    /// Throws std::runtime_error when the file can't be made.
    explicit Log(const std::string& path);
    ~Log();
    Log(const Log&) = delete;
    Log& operator=(const Log&) = delete;

    void write(const Record& record, const AnswerReader& answer);
    /// One line of totals since the start:
    /// `idle`: idle clients that had their answer.
    /// {"time_ns":…,"open":…,"idle_answered":…,"new":{"ok":…,"timeout":…},"sites":{"pangyo":…}}
    void report(std::uint64_t now, std::size_t open, std::size_t idle);
    void flush();

  private:
    std::FILE* file_;
    std::map<std::string, std::map<std::string, std::uint64_t>> results_;  // kind, result
    std::map<std::string, std::uint64_t> sites_;  // of new connections that were answered
};

}  // namespace detour::netlab

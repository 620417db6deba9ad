// Reads HTTP/1.1 answers from a byte stream, one after the other: only what a load generator must know.
//
// Takes Content-Length bodies, and bodies that end with the connection. No allocation after the header's own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace detour::netlab {

class AnswerReader {
  public:
    /// Consumes bytes; returns how many answers were completed by them.
    std::uint32_t feed(std::string_view data);
    /// The peer has closed: true when the stream ended where an answer may end.
    [[nodiscard]] bool complete_at_end() const {
        return !in_body_ ? head_.empty() && answers_ > 0 : until_close_;
    }
    [[nodiscard]] bool broken() const { return broken_; }
    [[nodiscard]] std::uint64_t answers() const { return answers_; }
    [[nodiscard]] int status() const { return status_; }                   ///< of the last header read, or 0
    [[nodiscard]] const std::string& site() const { return site_; }        ///< X-Site, as last seen
    [[nodiscard]] const std::string& backend() const { return backend_; }  ///< X-Backend
    [[nodiscard]] bool in_body() const { return in_body_; }

  private:
    void parse_head();
    [[nodiscard]] std::string header(std::string_view name) const;

    std::string head_;
    bool in_body_ = false;
    bool until_close_ = false;
    bool broken_ = false;
    std::uint64_t body_left_ = 0;
    std::uint64_t answers_ = 0;
    int status_ = 0;
    std::string site_;
    std::string backend_;
};

}  // namespace detour::netlab

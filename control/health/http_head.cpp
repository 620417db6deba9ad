#include "control/health/http_head.h"

#include <fmt/format.h>

#include <algorithm>

namespace detour::health {

namespace {

constexpr std::string_view kVersion = "HTTP/1.";
constexpr std::size_t kStatusAt = 9;  ///< behind "HTTP/1.1 "

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/// True while `line` may still become, or is, the start of a status line: garbage is seen before its line
/// ends.
bool may_be_status_line(std::string_view line) {
    const std::size_t size = std::min(line.size(), kVersion.size());
    return line.substr(0, size) == kVersion.substr(0, size);
}

/// 0: not a status line.
std::uint16_t read_status(std::string_view line) {
    if (line.size() < kStatusAt + 3 || !may_be_status_line(line)) return 0;
    if (!is_digit(line[kVersion.size()]) || line[kStatusAt - 1] != ' ') return 0;
    if (line.size() > kStatusAt + 3 && line[kStatusAt + 3] != ' ') return 0;
    unsigned status = 0;
    for (const char c : line.substr(kStatusAt, 3)) {
        if (!is_digit(c)) return 0;
        status = status * 10 + static_cast<unsigned>(c - '0');
    }
    return status < 100 ? std::uint16_t{0} : static_cast<std::uint16_t>(status);
}

}  // namespace

std::string http_request(const config::Health& health, const api::IpAddress& address) {
    std::string host = health.host;
    if (host.empty()) {
        host = address.is_v6() ? "[" + address.to_string() + "]" : address.to_string();
        if (health.port.value() != 80) host += fmt::format(":{}", health.port.value());
    }
    return fmt::format(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: detour\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        health.path, host);
}

HttpHead::State HttpHead::feed(std::string_view bytes) {
    if (state_ != State::kMore) return state_;
    buffer_.append(bytes.substr(0, kMaxHeadBytes + 1 - buffer_.size()));
    while (state_ == State::kMore) {
        const auto end = buffer_.find('\n', line_start_);
        if (end == std::string::npos) break;
        std::string_view line(buffer_.data() + line_start_, end - line_start_);
        if (line.ends_with('\r')) line.remove_suffix(1);
        line_start_ = end + 1;
        state_ = read_line(line);
    }
    if (state_ != State::kMore) return state_;
    const auto rest = std::string_view(buffer_).substr(line_start_);
    if (buffer_.size() > kMaxHeadBytes || (!in_headers_ && !may_be_status_line(rest))) state_ = State::kBad;
    return state_;
}

HttpHead::State HttpHead::read_line(std::string_view line) {
    if (!in_headers_) {
        status_ = read_status(line);
        in_headers_ = true;
        return status_ == 0 ? State::kBad : State::kMore;
    }
    if (line.empty()) {
        in_headers_ = false;
        return status_ < 200 ? State::kMore : State::kDone;
    }
    // A field name, or a folded line of an old server; no field name is empty or has a blank before its
    // colon.
    if (line.front() == ' ' || line.front() == '\t') return State::kMore;
    const auto colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0 || line.find('\0') != std::string_view::npos)
        return State::kBad;
    return State::kMore;
}

}  // namespace detour::health

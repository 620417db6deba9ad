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

std::string_view trimmed(std::string_view text) {
    const auto begin = text.find_first_not_of(" \t");
    if (begin == std::string_view::npos) return {};
    return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

std::string lower(std::string_view text) {
    std::string result(text);
    for (char& c : result) {
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
    }
    return result;
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

std::string http_authority(const config::Health& health, const api::IpAddress& address) {
    const bool tls = health.type == config::ProbeType::kHttps || health.type == config::ProbeType::kGrpcs;
    std::string host = health.host;
    if (host.empty() && tls) host = health.server_name;
    if (host.empty()) {
        host = address.is_v6() ? "[" + address.to_string() + "]" : address.to_string();
        if (health.port.value() != (tls ? 443 : 80)) host += fmt::format(":{}", health.port.value());
    }
    return host;
}

std::string http_request(const config::Health& health, const api::IpAddress& address, std::size_t least) {
    const char* no_body = health.method == config::HttpMethod::kPost ? "Content-Length: 0\r\n" : "";
    std::string request = fmt::format(
        "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: detour\r\nAccept: */*\r\n{}Connection: close\r\n\r\n",
        to_string(health.method), health.path, http_authority(health, address), no_body);
    constexpr std::string_view kFill = "X-Fill: \r\n";
    if (request.size() + kFill.size() < least) {
        const std::string dots(least - request.size() - kFill.size(), '.');
        request.insert(request.size() - 2, fmt::format("X-Fill: {}\r\n", dots));
    }
    return request;
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
        if (status_ >= 200) return State::kDone;
        framing_ = {};
        return State::kMore;
    }
    // A field name, or a folded line of an old server; no field name is empty or has a blank before its
    // colon.
    if (line.front() == ' ' || line.front() == '\t') return State::kMore;
    const auto colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0 || line.find('\0') != std::string_view::npos)
        return State::kBad;
    read_field(line.substr(0, colon), trimmed(line.substr(colon + 1)));
    return State::kMore;
}

/// A length that is no number says nothing: the body then ends with the connection.
void HttpHead::read_field(std::string_view name, std::string_view value) {
    if (name.size() == 17 && lower(name) == "transfer-encoding")
        framing_.chunked = lower(value).ends_with("chunked");
    if (name.size() != 14 || lower(name) != "content-length") return;
    if (value.empty() || value.size() > 18 || !std::ranges::all_of(value, is_digit)) return;
    framing_.length = 0;
    for (const char c : value) *framing_.length = *framing_.length * 10 + static_cast<unsigned>(c - '0');
}

}  // namespace detour::health

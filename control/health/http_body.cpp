#include "control/health/http_body.h"

#include <algorithm>
#include <utility>

namespace detour::health {

namespace {

/// -1: no hex digit.
int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    const char low = static_cast<char>(c | 0x20);
    return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

}  // namespace

HttpBody::HttpBody(std::string wanted, const HttpFraming& framing)
    : wanted_(std::move(wanted)), framing_(framing) {
    if (!framing_.chunked && framing_.length == 0U) state_ = State::kAbsent;
}

HttpBody::State HttpBody::feed(std::string_view bytes) {
    if (state_ != State::kMore) return state_;
    if (framing_.chunked) return state_ = feed_chunks(bytes);
    if (!framing_.length) return state_ = content(bytes);
    bytes = bytes.substr(0, *framing_.length);
    *framing_.length -= bytes.size();
    state_ = content(bytes);
    if (state_ == State::kMore && *framing_.length == 0) state_ = State::kAbsent;
    return state_;
}

HttpBody::State HttpBody::end() {
    if (state_ != State::kMore) return state_;
    const bool cut = framing_.chunked || framing_.length.has_value();
    return state_ = cut ? State::kBad : State::kAbsent;
}

HttpBody::State HttpBody::feed_chunks(std::string_view bytes) {
    while (!bytes.empty()) {
        State state = State::kMore;
        if (part_ == Part::kData) {
            const std::string_view data = bytes.substr(0, chunk_);
            bytes.remove_prefix(data.size());
            chunk_ -= data.size();
            if (chunk_ == 0) part_ = Part::kDataEnd;
            state = content(data);
        } else {
            const char c = bytes.front();
            bytes.remove_prefix(1);
            if (c != '\n') line_ += c;
            if (c == '\n') state = chunk_line();
            if (line_.size() > kMaxChunkLine) state = State::kBad;
        }
        if (state != State::kMore) return state;
    }
    return State::kMore;
}

/// The line behind a chunk is empty, the one before it begins with its size.
HttpBody::State HttpBody::chunk_line() {
    std::string line = std::exchange(line_, {});
    if (line.ends_with('\r')) line.pop_back();
    if (part_ == Part::kDataEnd) {
        part_ = Part::kLine;
        return line.empty() ? State::kMore : State::kBad;
    }
    chunk_ = 0;
    std::size_t digits = 0;
    while (digits < line.size() && hex_digit(line[digits]) >= 0) {
        chunk_ = chunk_ * 16 + static_cast<unsigned>(hex_digit(line[digits]));
        if (++digits > 15) return State::kBad;
    }
    const std::string_view behind = std::string_view(line).substr(digits);
    if (digits == 0 || (!behind.empty() && behind.find_first_of("; \t") != 0)) return State::kBad;
    part_ = Part::kData;
    return chunk_ == 0 ? State::kAbsent : State::kMore;
}

HttpBody::State HttpBody::content(std::string_view bytes) {
    bytes = bytes.substr(0, kMaxBodyBytes - looked_);
    looked_ += bytes.size();
    tail_ += bytes;
    if (tail_.find(wanted_) != std::string::npos) return State::kFound;
    if (looked_ == kMaxBodyBytes) return State::kAbsent;
    tail_.erase(0, tail_.size() - std::min(tail_.size(), wanted_.size() - 1));
    return State::kMore;
}

}  // namespace detour::health

#include "dataplane/api/framing.h"

#include <fmt/format.h>

#include "dataplane/api/limits.h"

namespace detour::api {

std::string frame(std::string_view payload) {
    const auto size = static_cast<std::uint32_t>(payload.size());
    std::string out;
    out.reserve(payload.size() + 4);
    for (const unsigned shift : {24U, 16U, 8U, 0U}) out.push_back(static_cast<char>(size >> shift & 0xffU));
    out.append(payload);
    return out;
}

void FrameReader::feed(std::string_view bytes) {
    if (start_ > 0 && start_ == buffer_.size()) {
        buffer_.clear();
        start_ = 0;
    }
    buffer_.append(bytes);
}

Result<std::optional<std::string>> FrameReader::next() {
    const std::string_view rest = std::string_view(buffer_).substr(start_);
    if (rest.size() < 4) return std::nullopt;
    std::uint32_t size = 0;
    for (std::size_t i = 0; i < 4; ++i) size = size << 8U | static_cast<std::uint8_t>(rest[i]);
    if (size > kMaxMessageBytes) {
        return fail(
            ErrorCode::kLimit, "reading a message",
            fmt::format("{} bytes are more than the {} that a message may have", size, kMaxMessageBytes));
    }
    if (rest.size() - 4 < size) return std::nullopt;
    std::string payload(rest.substr(4, size));
    start_ += 4 + static_cast<std::size_t>(size);
    if (start_ > 1U << 16U) {
        buffer_.erase(0, start_);
        start_ = 0;
    }
    return payload;
}

}  // namespace detour::api

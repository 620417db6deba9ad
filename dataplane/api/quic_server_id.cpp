#include "dataplane/api/quic_server_id.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

namespace detour::api {

Result<std::string> bytes_from_hex(std::string_view text) {
    if (text.empty() || text.size() % 2 != 0)
        return fail(ErrorCode::kInvalidArgument, "reading bytes",
                    fmt::format("\"{}\" is no row of pairs of hex digits", text));
    std::string bytes;
    for (std::size_t i = 0; i < text.size(); i += 2) {
        unsigned value = 0;
        const char* end = text.data() + i + 2;
        const auto read = std::from_chars(text.data() + i, end, value, 16);
        if (read.ec != std::errc{} || read.ptr != end)
            return fail(ErrorCode::kInvalidArgument, "reading bytes",
                        fmt::format("\"{}\" has other characters than hex digits", text));
        bytes.push_back(static_cast<char>(value));
    }
    return bytes;
}

std::string hex_of(std::string_view bytes) {
    std::string text;
    for (const char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
    return text;
}

Result<QuicServerId> QuicServerId::make(std::uint32_t rotation, std::string_view bytes) {
    if (rotation >= kQuicConfigurations)
        return fail(ErrorCode::kLimit, "reading a server id",
                    fmt::format("configuration {} is above {}", rotation, kQuicConfigurations - 1));
    if (bytes.empty() || bytes.size() > kMaxQuicServerId)
        return fail(ErrorCode::kLimit, "reading a server id",
                    fmt::format("it has {} bytes, not 1 to {}", bytes.size(), kMaxQuicServerId));
    QuicServerId id;
    id.rotation_ = static_cast<std::uint8_t>(rotation);
    id.size_ = static_cast<std::uint8_t>(bytes.size());
    std::ranges::copy(bytes, reinterpret_cast<char*>(id.bytes_.data()));
    return id;
}

Result<QuicServerId> QuicServerId::parse(std::string_view text) {
    std::uint32_t rotation = 0;
    if (text.size() > 1 && text[1] == ':') {
        if (text[0] < '0' || text[0] > '6')
            return fail(ErrorCode::kLimit, "reading a server id",
                        fmt::format("\"{}\" has no configuration from 0 to 6", text));
        rotation = static_cast<std::uint32_t>(text[0] - '0');
        text.remove_prefix(2);
    }
    const auto bytes = bytes_from_hex(text);
    if (!bytes) return tl::unexpected(bytes.error());
    return make(rotation, *bytes);
}

std::string QuicServerId::wire() const {
    return {reinterpret_cast<const char*>(bytes_.data()), size_};
}

std::string QuicServerId::to_string() const {
    return (rotation_ == 0 ? "" : fmt::format("{}:", rotation_)) + hex_of(wire());
}

}  // namespace detour::api

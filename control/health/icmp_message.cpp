#include "control/health/icmp_message.h"

namespace detour::health {

namespace {

constexpr unsigned kEcho = 8, kEchoReply = 0, kEcho6 = 128, kEchoReply6 = 129;
constexpr std::size_t kHeaderBytes = 8;

void put(std::string& out, std::uint64_t value, unsigned bytes) {
    for (unsigned i = bytes; i > 0; --i) out += static_cast<char>(value >> (8 * (i - 1)) & 0xffU);
}

std::uint64_t get(std::string_view bytes, std::size_t at, unsigned count) {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < count; ++i) value = value << 8U | static_cast<unsigned char>(bytes[at + i]);
    return value;
}

/// RFC 1071.
unsigned checksum(std::string_view bytes) {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) sum += static_cast<std::uint32_t>(get(bytes, i, 2));
    if (bytes.size() % 2 != 0) sum += static_cast<std::uint32_t>(get(bytes, bytes.size() - 1, 1) << 8U);
    while (sum > 0xffff) sum = (sum & 0xffffU) + (sum >> 16U);
    return ~sum & 0xffffU;
}

}  // namespace

std::string echo_request(const Echo& echo, std::size_t size) {
    std::string out;
    put(out, (echo.v6 ? kEcho6 : kEcho) << 8U, 2);
    put(out, 0, 2);
    put(out, echo.identifier, 2);
    put(out, echo.sequence, 2);
    put(out, echo.cookie, 8);
    if (out.size() < size) out.resize(size, 'd');
    if (echo.v6) return out;
    const unsigned sum = checksum(out);
    out[2] = static_cast<char>(sum >> 8U);
    out[3] = static_cast<char>(sum & 0xffU);
    return out;
}

bool answers_echo(std::string_view bytes, EchoBytes form, const Echo& echo) {
    if (form == EchoBytes::kPacket) {
        if (bytes.size() < 20) return false;
        const std::size_t header = (get(bytes, 0, 1) & 0xfU) * 4;
        if (header < 20 || bytes.size() < header) return false;
        bytes.remove_prefix(header);
    }
    if (bytes.size() < kHeaderBytes + 8) return false;
    if (get(bytes, 0, 2) != (echo.v6 ? kEchoReply6 : kEchoReply) << 8U) return false;
    if (echo.identifier != 0 && get(bytes, 4, 2) != echo.identifier) return false;
    return get(bytes, 6, 2) == echo.sequence && get(bytes, 8, 8) == echo.cookie;
}

}  // namespace detour::health

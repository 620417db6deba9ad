#include "tools/lbctl/pcapng.h"

#include <algorithm>

namespace detour::lbctl {

namespace {

constexpr std::uint32_t kSectionHeader = 0x0a0d0d0a;
constexpr std::uint32_t kByteOrderMagic = 0x1a2b3c4d;
constexpr std::uint32_t kInterface = 1;
constexpr std::uint32_t kEnhancedPacket = 6;
constexpr std::uint16_t kEthernet = 1;
constexpr std::uint16_t kOptionEnd = 0;
constexpr std::uint16_t kComment = 1;
constexpr std::uint16_t kFlags = 2;
constexpr std::uint16_t kInterfaceName = 2;
constexpr std::uint16_t kApplication = 4;
constexpr std::size_t kLongestText = 4096;

template <class T>
void put(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_padded(std::string& out, std::string_view bytes) {
    out += bytes;
    out.append((4 - bytes.size() % 4) % 4, '\0');
}

void put_option(std::string& out, std::uint16_t code, std::string_view value) {
    value = value.substr(0, kLongestText);
    put(out, code);
    put(out, static_cast<std::uint16_t>(value.size()));
    put_padded(out, value);
}

std::string block(std::uint32_t type, std::string_view body) {
    const auto length = static_cast<std::uint32_t>(body.size() + 12);
    std::string out;
    put(out, type);
    put(out, length);
    out += body;
    put(out, length);
    return out;
}

std::string interface_block(std::string_view name) {
    std::string body;
    put(body, kEthernet);
    put(body, std::uint16_t{0});
    put(body, std::uint32_t{0});  // no limit: each packet says how much of it is there
    put_option(body, kInterfaceName, name);
    put(body, std::uint32_t{kOptionEnd});
    return block(kInterface, body);
}

}  // namespace

std::string Pcapng::header(std::string_view application) {
    std::string body;
    put(body, kByteOrderMagic);
    put(body, std::uint16_t{1});
    put(body, std::uint16_t{0});
    put(body, std::int64_t{-1});  // length of the section: not known
    put_option(body, kApplication, application);
    put(body, std::uint32_t{kOptionEnd});
    return block(kSectionHeader, body);
}

std::string Pcapng::packet(const Packet& packet) {
    const bool sent = packet.way == Way::kSent;
    const auto [found, is_new] = interfaces_.try_emplace(packet.port + (sent ? " out" : " in"),
                                                         static_cast<std::uint32_t>(interfaces_.size()));
    std::string body;
    put(body, found->second);
    put(body, static_cast<std::uint32_t>(packet.time_us >> 32U));
    put(body, static_cast<std::uint32_t>(packet.time_us));
    const auto kept = static_cast<std::uint32_t>(packet.bytes.size());
    put(body, kept);
    put(body, std::max(packet.length, kept));
    put_padded(body, {reinterpret_cast<const char*>(packet.bytes.data()), packet.bytes.size()});
    if (!packet.comment.empty()) put_option(body, kComment, packet.comment);
    const std::uint32_t direction = sent ? 2 : 1;
    put_option(body, kFlags, {reinterpret_cast<const char*>(&direction), sizeof direction});
    put(body, std::uint32_t{kOptionEnd});
    return (is_new ? interface_block(found->first) : std::string()) + block(kEnhancedPacket, body);
}

}  // namespace detour::lbctl

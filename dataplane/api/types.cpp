#include "dataplane/api/types.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <charconv>
#include <cstring>

namespace detour::api {
namespace {

constexpr std::string_view kReadingAddress = "reading an address";
constexpr std::string_view kReadingVip = "reading a vip";

tl::unexpected<Error> bad(std::string_view doing, std::string what) {
    return fail(ErrorCode::kInvalidArgument, std::string(doing), std::move(what));
}

Result<Port> parse_port(std::string_view text) {
    std::uint16_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value == 0) {
        return bad(kReadingVip, fmt::format("\"{}\" is no port (1 to 65535)", text));
    }
    return Port{value};
}

}  // namespace

Result<IpAddress> IpAddress::parse(std::string_view text) {
    const std::string terminated(text);
    std::array<std::uint8_t, 16> bytes{};
    if (terminated.size() == text.size() && terminated.find('\0') == std::string::npos) {
        if (inet_pton(AF_INET, terminated.c_str(), bytes.data()) == 1) {
            return v4({bytes[0], bytes[1], bytes[2], bytes[3]});
        }
        if (inet_pton(AF_INET6, terminated.c_str(), bytes.data()) == 1) return v6(bytes);
    }
    return bad(kReadingAddress, fmt::format("\"{}\" is neither an IPv4 nor an IPv6 address", text));
}

Result<IpAddress> IpAddress::from_bytes(std::string_view bytes) {
    if (bytes.size() == 4) {
        std::array<std::uint8_t, 4> raw{};
        std::memcpy(raw.data(), bytes.data(), raw.size());
        return v4(raw);
    }
    if (bytes.size() == 16) {
        std::array<std::uint8_t, 16> raw{};
        std::memcpy(raw.data(), bytes.data(), raw.size());
        return v6(raw);
    }
    return bad(kReadingAddress,
               fmt::format("{} bytes are neither an IPv4 nor an IPv6 address", bytes.size()));
}

std::string IpAddress::wire() const {
    return {reinterpret_cast<const char*>(bytes_.data()), size()};
}

std::string IpAddress::to_string() const {
    std::array<char, INET6_ADDRSTRLEN> text{};
    inet_ntop(is_v6_ ? AF_INET6 : AF_INET, bytes_.data(), text.data(), text.size());
    return text.data();
}

Result<Vip> Vip::parse(std::string_view text) {
    const std::size_t slash = text.rfind('/');
    const std::size_t colon = text.substr(0, slash).rfind(':');
    if (slash == std::string_view::npos || colon == std::string_view::npos) {
        return bad(kReadingVip,
                   fmt::format("\"{}\" is not of the form ADDRESS:PORT/tcp or [V6]:PORT/udp", text));
    }
    const std::string_view protocol = text.substr(slash + 1);
    if (protocol != "tcp" && protocol != "udp") {
        return bad(kReadingVip, fmt::format("\"{}\" is neither tcp nor udp", protocol));
    }
    std::string_view host = text.substr(0, colon);
    const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
    if (bracketed) host = host.substr(1, host.size() - 2);
    const auto address = IpAddress::parse(host);
    if (!address) return bad(kReadingVip, address.error().what);
    if (address->is_v6() != bracketed) {
        return bad(kReadingVip,
                   fmt::format("\"{}\": an IPv6 address stands in brackets, an IPv4 address does not", text));
    }
    const auto port = parse_port(text.substr(colon + 1, slash - colon - 1));
    if (!port) return tl::unexpected(port.error());
    return Vip{*address, *port, protocol == "tcp" ? Protocol::kTcp : Protocol::kUdp};
}

std::string Vip::to_string() const {
    const std::string host = address.is_v6() ? "[" + address.to_string() + "]" : address.to_string();
    return fmt::format("{}:{}/{}", host, port.value(), api::to_string(protocol));
}

// Two lanes of a 64-bit multiply-xorshift absorb the text. The text is the secret; this only spreads its
// entropy over 128 bits, it need not resist anybody who knows the seed.
FleetSeed FleetSeed::from_text(std::string_view text) noexcept {
    std::uint64_t a = 0x9e3779b97f4a7c15ULL;
    std::uint64_t b = 0xc2b2ae3d27d4eb4fULL ^ text.size();
    const auto stir = [&](std::uint64_t x) {
        a = (a ^ x) * 0xbf58476d1ce4e5b9ULL;
        a ^= a >> 31U;
        b = (b + x) * 0x94d049bb133111ebULL;
        b ^= (b >> 29U) ^ a;
    };
    for (const char c : text) stir(static_cast<std::uint8_t>(c));
    for (std::uint64_t round = 0; round < 8; ++round) stir(round);
    FleetSeed seed;
    std::memcpy(seed.bytes.data(), &a, sizeof a);
    std::memcpy(seed.bytes.data() + sizeof a, &b, sizeof b);
    return seed;
}

std::string_view to_string(Protocol value) noexcept {
    return value == Protocol::kTcp ? "tcp" : "udp";
}

std::string_view to_string(Encap value) noexcept {
    switch (value) {
        case Encap::kIpip:
            return "ipip";
        case Encap::kGue:
            return "gue";
        case Encap::kGre:
            return "gre";
    }
    return "?";
}

std::string_view to_string(HashKey value) noexcept {
    switch (value) {
        case HashKey::kFiveTuple:
            return "5-tuple";
        case HashKey::kSource:
            return "source";
        case HashKey::kQuicCid:
            return "quic-cid";
    }
    return "?";
}

std::string_view to_string(Stranded value) noexcept {
    switch (value) {
        case Stranded::kReset:
            return "reset";
        case Stranded::kRehash:
            return "rehash";
        case Stranded::kKeep:
            return "keep";
    }
    return "?";
}

std::string_view to_string(Refusal value) noexcept {
    return value == Refusal::kReset ? "reset" : "drop";
}

}  // namespace detour::api

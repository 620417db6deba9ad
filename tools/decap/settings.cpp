#include "tools/decap/settings.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <system_error>

namespace detour::decap {

namespace {

constexpr std::uint16_t kTcpBytes = 20;
constexpr std::uint16_t kIpv4Bytes = 20;
constexpr std::uint16_t kIpv6Bytes = 40;

[[nodiscard]] bool has_bits_beyond(const api::IpAddress& address, std::size_t bits) {
    for (std::size_t i = bits; i < address.size() * 8; ++i) {
        if ((address.bytes()[i / 8] >> (7 - i % 8) & 1) != 0) return true;
    }
    return false;
}

}  // namespace

Result<Prefix> Prefix::parse(std::string_view text) {
    const auto slash = text.find('/');
    auto address = api::IpAddress::parse(text.substr(0, slash));
    if (!address) return tl::unexpected(address.error());
    const std::size_t most = address->size() * 8;
    std::size_t bits = most;
    if (slash != std::string_view::npos) {
        const auto number = text.substr(slash + 1);
        const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), bits);
        if (error != std::errc{} || end != number.data() + number.size() || bits > most) {
            return api::fail(api::ErrorCode::kInvalidArgument, "reading a prefix",
                             "'" + std::string(text) + "': the length is not 0 … " + std::to_string(most));
        }
    }
    if (has_bits_beyond(*address, bits)) {
        return api::fail(api::ErrorCode::kInvalidArgument, "reading a prefix",
                         "'" + std::string(text) + "' has bits set beyond its length");
    }
    return Prefix{*address, static_cast<std::uint8_t>(bits)};
}

std::vector<InterfacePlan> Settings::plan() const {
    std::vector<InterfacePlan> result;
    const auto entry = [&result](const std::string& name) -> InterfacePlan& {
        const auto found =
            std::ranges::find_if(result, [&name](const auto& candidate) { return candidate.name == name; });
        return found != result.end() ? *found : result.emplace_back(InterfacePlan{name, false, false});
    };
    for (const auto& name : interfaces) entry(name).decapsulates = true;
    for (const auto& name : clamp.empty() ? interfaces : clamp) entry(name).clamps = true;
    return result;
}

std::uint16_t Settings::mss_v4() const noexcept {
    return static_cast<std::uint16_t>(tunnel_mtu - tunnel_overhead - kIpv4Bytes - kTcpBytes);
}

std::uint16_t Settings::mss_v6() const noexcept {
    return static_cast<std::uint16_t>(tunnel_mtu - tunnel_overhead - kIpv6Bytes - kTcpBytes);
}

}  // namespace detour::decap

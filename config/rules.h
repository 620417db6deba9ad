// What one string of the configuration must look like. Pure.
//
// A rule returns nothing when the text is right, else what was expected, for the second half of a message.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace detour::config {

using TextRule = std::function<std::optional<std::string>(const std::string&)>;

inline constexpr std::string_view kNameRule =
    "1 to 63 letters, digits, dots, dashes or underscores, a letter or digit first, and no IP address";
inline constexpr std::string_view kAddressRule =
    "a unicast IPv4 or IPv6 address as a string, such as \"10.1.0.11\"";

inline constexpr std::string_view kInterfaceRule = "an interface's name of at most 15 bytes, without blanks";
inline constexpr std::string_view kPayloadRule =
    "1 to 512 bytes: a text, or \"hex:\" and pairs of hex digits, such as \"hex:00ff\"";
inline constexpr std::string_view kDnsNameRule =
    "a DNS name of at most 253 bytes: labels of 1 to 63 letters, digits, dashes or underscores";

[[nodiscard]] std::optional<std::string> name_rule(const std::string& text);
/// A host's own address.
[[nodiscard]] std::optional<std::string> address_rule(const std::string& text);
/// An outer source of tunnels.
[[nodiscard]] std::optional<std::string> source_rule(const std::string& text);
[[nodiscard]] std::optional<std::string> vip_rule(const std::string& text);
/// 1 to `most` bytes without blanks and control characters, the first of them `first` unless that is 0.
[[nodiscard]] TextRule plain_rule(std::size_t most, char first, std::string expected);

/// 1 to `most` bytes of any kind.
[[nodiscard]] TextRule size_rule(std::size_t most, std::string expected);

/// An argument of a command: 1 to 1024 bytes without NUL.
[[nodiscard]] std::optional<std::string> argument_rule(const std::string& text);
[[nodiscard]] std::optional<std::string> url_rule(const std::string& text);

[[nodiscard]] std::optional<std::string> payload_rule(const std::string& text);
/// What a text that passes payload_rule stands for; nothing for one that has wrong hex digits.
[[nodiscard]] std::optional<std::string> payload_bytes(const std::string& text);
inline constexpr std::string_view kServerIdRule =
    "1 to 15 bytes in hex, such as \"0a1f\"; \"1:0a1f\" for the configuration that connection ids call 1, up "
    "to 6";
[[nodiscard]] std::optional<std::string> server_id_rule(const std::string& text);
[[nodiscard]] std::optional<std::string> dns_name_rule(const std::string& text);

/// Nothing when the seed will do, else what is wrong with it: "a placeholder", "15 characters". Never shows
/// the seed.
[[nodiscard]] std::optional<std::string> seed_fault(const std::string& seed);

/// The text in quotes as a message shows it: control characters escaped, cut after 60 bytes.
[[nodiscard]] std::string quoted(std::string_view text);

}  // namespace detour::config

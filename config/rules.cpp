#include "config/rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "dataplane/api/types.h"

namespace detour::config {
namespace {

constexpr std::size_t kMaxShown = 60;  // bytes of an offending string in a message

bool is_letter_or_digit(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/// No blank and no control character: what may stand in a device string, a host name, a path of a URL.
bool is_plain(std::string_view text) {
    return std::ranges::all_of(text,
                               [](char c) { return static_cast<unsigned char>(c) > 0x20 && c != 0x7f; });
}

bool is_unicast(const api::IpAddress& address) {
    const auto& b = address.bytes();
    if (!address.is_v6()) return b[0] != 0 && b[0] != 127 && b[0] < 224 && !(b[0] == 169 && b[1] == 254);
    const bool low =
        std::all_of(b.begin(), b.begin() + 12, [](auto byte) { return byte == 0; });  // ::, ::1, ::a.b.c.d
    const bool mapped =
        std::all_of(b.begin(), b.begin() + 10, [](auto byte) { return byte == 0; }) && b[10] == 0xff;
    const bool link_local = b[0] == 0xfe && (b[1] & 0xc0U) == 0x80;
    return b[0] != 0xff && !low && !mapped && !link_local;
}

}  // namespace

std::string quoted(std::string_view text) {
    std::string result = "\"";
    for (const char c : text.substr(0, kMaxShown)) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte == 0x7f) {
            result += fmt::format("\\u{:04x}", byte);
        } else {
            result += c;
        }
    }
    // Never end in half a UTF-8 character.
    while (text.size() > kMaxShown && (static_cast<unsigned char>(result.back()) & 0x80U) != 0)
        result.pop_back();
    return result + (text.size() > kMaxShown ? "…\"" : "\"");
}

std::optional<std::string> name_rule(const std::string& text) {
    const auto fits = [](char c) { return is_letter_or_digit(c) || c == '.' || c == '-' || c == '_'; };
    const bool good = !text.empty() && text.size() <= 63 && is_letter_or_digit(text.front()) &&
                      std::ranges::all_of(text, fits) && !api::IpAddress::parse(text);
    return good ? std::nullopt : std::optional<std::string>(kNameRule);
}

TextRule plain_rule(std::size_t most, char first, std::string expected) {
    return [=](const std::string& text) -> std::optional<std::string> {
        const bool good =
            !text.empty() && text.size() <= most && is_plain(text) && (first == 0 || text[0] == first);
        return good ? std::nullopt : std::optional(expected);
    };
}

TextRule size_rule(std::size_t most, std::string expected) {
    return [=](const std::string& text) -> std::optional<std::string> {
        return !text.empty() && text.size() <= most ? std::nullopt : std::optional(expected);
    };
}

std::optional<std::string> argument_rule(const std::string& text) {
    const bool good = !text.empty() && text.size() <= 1024 && text.find('\0') == std::string::npos;
    return good ? std::nullopt : std::optional<std::string>("1 to 1024 bytes without NUL");
}

std::optional<std::string> url_rule(const std::string& text) {
    const bool http = text.starts_with("http://");
    const std::string_view rest =
        std::string_view(text).substr(http ? 7 : std::min<std::size_t>(8, text.size()));
    const bool good = (http || text.starts_with("https://")) && text.size() <= 1024 && is_plain(text) &&
                      !rest.empty() && rest.front() != '/' && rest.find('@') == std::string_view::npos &&
                      rest.find('#') == std::string_view::npos;
    if (good) return std::nullopt;
    return "a URL of at most 1024 bytes that starts with http:// or https://, without user and fragment";
}

std::optional<std::string> payload_bytes(const std::string& text) {
    if (!text.starts_with("hex:")) return text;
    const std::string_view digits = std::string_view(text).substr(4);
    if (digits.size() % 2 != 0) return std::nullopt;
    std::string bytes;
    for (std::size_t i = 0; i < digits.size(); i += 2) {
        unsigned value = 0;
        const auto [end, error] = std::from_chars(digits.data() + i, digits.data() + i + 2, value, 16);
        if (error != std::errc() || end != digits.data() + i + 2) return std::nullopt;
        bytes += static_cast<char>(value);
    }
    return bytes;
}

std::optional<std::string> payload_rule(const std::string& text) {
    const auto bytes = payload_bytes(text);
    const bool good = bytes && !bytes->empty() && bytes->size() <= 512;
    return good ? std::nullopt : std::optional<std::string>(kPayloadRule);
}

std::optional<std::string> dns_name_rule(const std::string& text) {
    const auto fits = [](char c) { return is_letter_or_digit(c) || c == '-' || c == '_' || c == '.'; };
    bool good = !text.empty() && text.size() <= 253 && std::ranges::all_of(text, fits);
    for (std::size_t begin = 0; good && begin < text.size();) {
        const std::size_t end = std::min(text.find('.', begin), text.size());
        good = end > begin && end - begin <= 63;
        begin = end + 1;
    }
    return good ? std::nullopt : std::optional<std::string>(kDnsNameRule);
}

std::optional<std::string> server_id_rule(const std::string& text) {
    if (api::QuicServerId::parse(text)) return std::nullopt;
    return std::string(kServerIdRule);
}

std::optional<std::string> address_rule(const std::string& text) {
    const auto address = api::IpAddress::parse(text);
    if (!address) return std::string(kAddressRule);
    if (!is_unicast(*address))
        return "an address that a host can have: not multicast, loopback or link-local";
    return std::nullopt;
}

std::optional<std::string> source_rule(const std::string& text) {
    const std::size_t slash = text.find('/');
    if (slash != std::string::npos && api::IpAddress::parse(text.substr(0, slash))) {
        return "an address without a prefix length: prefixes are not supported by this version";
    }
    return address_rule(text);
}

std::optional<std::string> vip_rule(const std::string& text) {
    const auto vip = api::Vip::parse(text);
    if (!vip) return "\"ADDRESS:PORT/tcp\" or \"[IPV6]:PORT/udp\": " + vip.error().what;
    if (!is_unicast(vip->address))
        return "an address that clients can reach: not multicast, loopback or link-local";
    return std::nullopt;
}

/// Nothing when the seed will do, else what is wrong with it. The seed itself is never shown.
std::optional<std::string> seed_fault(const std::string& seed) {
    std::string letters;
    for (const char c : seed) {
        if (is_letter_or_digit(c)) letters += static_cast<char>(c | 0x20);
    }
    constexpr std::array<std::string_view, 8> kPlaceholders{
        "changeme", "secret", "placeholder", "example", "fleetseed", "yourseed", "putyour", "openssl"};
    const auto begins = [&](std::string_view word) { return letters.starts_with(word); };
    if (seed == "…" || std::ranges::any_of(kPlaceholders, begins)) return "a placeholder";
    if (seed.size() < 16) return fmt::format("{} characters", seed.size());
    if (seed.size() > 256) return fmt::format("{} characters", seed.size());
    if (std::ranges::count(seed, seed[0]) == std::ssize(seed)) return "one character repeated";
    return std::nullopt;
}

}  // namespace detour::config

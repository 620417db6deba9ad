#include "tools/netlab/loadgen/options.h"

#include <arpa/inet.h>
#include <array>
#include <map>
#include <stdexcept>

namespace detour::netlab {
namespace {

constexpr const char* kUsage =
    "usage: netlab-loadgen --target ADDRESS:PORT [--target ...] --out FILE\n"
    "  --source ADDRESS          first source address (once for IPv4, once for IPv6)\n"
    "  --source-count N          addresses from there on, 250 unless told\n"
    "  --prefixes N              and so in as many /24 and /48, from the first one's on (1 to 250)\n"
    "  --new-rate N              new connections a second, one request each\n"
    "  --long N                  long-lived clients: a third each sending, waiting, downloading\n"
    "  --idle N                  clients that ask once and keep their connection, begun at --idle-rate a "
    "second\n"
    "  --upload BYTES            now and then a POST of so many bytes (1MiB, 512KiB, 1000)\n"
    "  --upload-every MS --send-every MS --connect-timeout MS --answer-timeout MS --idle-timeout MS\n"
    "  --report MS               totals on stdout so often\n"
    "  --duration SECONDS        default: until SIGTERM";

std::uint64_t parse_number(const std::string& text) {
    std::size_t end = 0;
    const std::uint64_t value = std::stoull(text, &end);
    const std::string unit = text.substr(end);
    if (unit.empty()) return value;
    if (unit == "KiB") return value << 10U;
    if (unit == "MiB") return value << 20U;
    throw std::invalid_argument("not a number: " + text);
}

void set_source(Options& options, const std::string& text) {
    const bool v6 = text.find(':') != std::string::npos;
    const Endpoint endpoint = parse_endpoint(v6 ? "[" + text + "]:0" : text + ":0");
    (v6 ? options.source_v6 : options.source_v4) = endpoint;
}

}  // namespace

std::string Endpoint::host() const {
    std::array<char, INET6_ADDRSTRLEN> text{};
    const void* raw =
        is_v6() ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr)
                : static_cast<const void*>(&reinterpret_cast<const sockaddr_in&>(address).sin_addr);
    return inet_ntop(address.ss_family, raw, text.data(), text.size());
}

std::uint16_t Endpoint::port() const {
    return ntohs(is_v6() ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                         : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

Endpoint parse_endpoint(const std::string& text) {
    Endpoint result;
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos || colon < 2)
        throw std::invalid_argument("expected ADDRESS:PORT, found " + text);
    const in_port_t port = htons(static_cast<std::uint16_t>(std::stoul(text.substr(colon + 1))));
    if (text.front() == '[') {
        auto& v6 = reinterpret_cast<sockaddr_in6&>(result.address);
        v6.sin6_family = AF_INET6;
        v6.sin6_port = port;
        result.length = sizeof v6;
        if (inet_pton(AF_INET6, text.substr(1, colon - 2).c_str(), &v6.sin6_addr) == 1) return result;
    } else {
        auto& v4 = reinterpret_cast<sockaddr_in&>(result.address);
        v4.sin_family = AF_INET;
        v4.sin_port = port;
        result.length = sizeof v4;
        if (inet_pton(AF_INET, text.substr(0, colon).c_str(), &v4.sin_addr) == 1) return result;
    }
    throw std::invalid_argument("not an address: " + text);
}

Options parse_options(int argc, char** argv) {
    Options options;
    const std::map<std::string, std::uint32_t*> numbers = {{"--source-count", &options.source_count},
                                                           {"--prefixes", &options.prefixes},
                                                           {"--new-rate", &options.new_rate},
                                                           {"--long", &options.long_lived},
                                                           {"--idle", &options.idle},
                                                           {"--idle-rate", &options.idle_rate},
                                                           {"--upload-every", &options.upload_every_ms},
                                                           {"--send-every", &options.send_every_ms},
                                                           {"--connect-timeout", &options.connect_timeout_ms},
                                                           {"--answer-timeout", &options.answer_timeout_ms},
                                                           {"--idle-timeout", &options.idle_timeout_ms},
                                                           {"--report", &options.report_ms},
                                                           {"--duration", &options.duration_s}};
    for (int n = 1; n + 1 < argc; n += 2) {
        const std::string key = argv[n];
        const std::string value = argv[n + 1];
        if (const auto number = numbers.find(key); number != numbers.end()) {
            *number->second = static_cast<std::uint32_t>(parse_number(value));
        } else if (key == "--target") {
            options.targets.push_back(parse_endpoint(value));
        } else if (key == "--source") {
            set_source(options, value);
        } else if (key == "--upload") {
            options.upload_bytes = parse_number(value);
        } else if (key == "--out") {
            options.out = value;
        } else {
            throw std::invalid_argument("unknown argument " + key + "\n" + kUsage);
        }
    }
    if (options.prefixes < 1 || options.prefixes > 250) throw std::invalid_argument(kUsage);
    if (argc % 2 == 0 || options.targets.empty() || options.out.empty()) throw std::invalid_argument(kUsage);
    return options;
}

}  // namespace detour::netlab

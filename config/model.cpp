#include "config/model.h"

#include <fmt/format.h>

#include <algorithm>

namespace detour::config {

std::string_view to_string(ProbeType type) noexcept {
    switch (type) {
        case ProbeType::kTcp:
            return "tcp";
        case ProbeType::kHttp:
            return "http";
        case ProbeType::kHttps:
            return "https";
        case ProbeType::kTls:
            return "tls";
        case ProbeType::kUdp:
            return "udp";
        case ProbeType::kDns:
            return "dns";
        case ProbeType::kIcmp:
            return "icmp";
        case ProbeType::kGrpc:
            return "grpc";
        case ProbeType::kGrpcs:
            return "grpcs";
    }
    return "unknown";
}

std::string_view to_string(Via via) noexcept {
    return via == Via::kTunnel ? "tunnel" : "direct";
}

std::string_view to_string(TlsVerify verify) noexcept {
    switch (verify) {
        case TlsVerify::kNone:
            return "none";
        case TlsVerify::kChain:
            return "chain";
        case TlsVerify::kName:
            return "name";
    }
    return "unknown";
}

std::string_view to_string(HttpMethod method) noexcept {
    switch (method) {
        case HttpMethod::kGet:
            return "GET";
        case HttpMethod::kHead:
            return "HEAD";
        case HttpMethod::kOptions:
            return "OPTIONS";
        case HttpMethod::kPost:
            return "POST";
    }
    return "unknown";
}

std::string_view to_string(Data data) noexcept {
    switch (data) {
        case Data::kAny:
            return "any";
        case Data::kSingleWriter:
            return "single-writer";
    }
    return "unknown";
}

std::string Origin::to_string() const {
    if (line == 0) return file;
    return fmt::format("{}:{}:{}", file, line, column);
}

const Site* Config::find_site(std::string_view name) const {
    const auto found = std::ranges::find(sites, name, &Site::name);
    return found == sites.end() ? nullptr : &*found;
}

const Pool* Config::find_pool(std::string_view name) const {
    const auto found = std::ranges::find(pools, name, &Pool::name);
    return found == pools.end() ? nullptr : &*found;
}

}  // namespace detour::config

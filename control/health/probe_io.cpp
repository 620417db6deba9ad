#include "control/health/probe_io.h"

#include <boost/asio/error.hpp>
#include <cerrno>
#include <string_view>

namespace detour::health {

namespace {
std::string_view category_of(const boost::system::error_code& ec) {
    return ec.category().name();
}
}  // namespace

bool is_end(const boost::system::error_code& ec) {
    return ec == boost::asio::error::eof || category_of(ec) == "asio.ssl.stream";
}

Cause cause_of(const boost::system::error_code& ec) {
    if (is_end(ec)) return Cause::kReset;
    // By its name: TLS's category would pull the TLS library into every probe.
    if (category_of(ec) == "asio.ssl") return Cause::kTlsFailed;
    switch (ec.value()) {
        case ECONNREFUSED:
            return Cause::kRefused;
        case ECONNRESET:
        case EPIPE:
            return Cause::kReset;
        case ENETUNREACH:
        case EHOSTUNREACH:
        case ENETDOWN:
        case EHOSTDOWN:
            return Cause::kUnreachable;
        case ETIMEDOUT:
            return Cause::kTimeout;
        // All others are this host's own trouble: descriptors, ports, memory, a firewall rule on the way out.
        default:
            return Cause::kNotSent;
    }
}

}  // namespace detour::health

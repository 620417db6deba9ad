#include "control/health/probe_io.h"

#include <cerrno>

namespace detour::health {

Cause cause_of(const boost::system::error_code& ec) {
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

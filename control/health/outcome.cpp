#include "control/health/outcome.h"

namespace detour::health {

std::string_view to_string(Cause cause) noexcept {
    switch (cause) {
        case Cause::kOk:
            return "ok";
        case Cause::kTimeout:
            return "timeout";
        case Cause::kRefused:
            return "refused";
        case Cause::kReset:
            return "reset";
        case Cause::kUnreachable:
            return "unreachable";
        case Cause::kBadStatus:
            return "bad_status";
        case Cause::kBadResponse:
            return "bad_response";
        case Cause::kBadBody:
            return "bad_body";
        case Cause::kBadAnswer:
            return "bad_answer";
        case Cause::kBadRcode:
            return "bad_rcode";
        case Cause::kTlsFailed:
            return "tls_failed";
        case Cause::kCertificateExpired:
            return "certificate_expired";
        case Cause::kCertificateEarly:
            return "certificate_early";
        case Cause::kCertificateUntrusted:
            return "certificate_untrusted";
        case Cause::kCertificateName:
            return "certificate_name";
        case Cause::kNotServing:
            return "not_serving";
        case Cause::kBadGrpcStatus:
            return "grpc_status";
        case Cause::kNotSent:
            return "not_sent";
    }
    return "unknown";
}

std::string Outcome::to_string() const {
    if (cause == Cause::kBadStatus) return "status " + std::to_string(status);
    if (cause == Cause::kBadRcode) return "rcode " + std::to_string(status);
    if (cause == Cause::kNotServing) return status == 2 ? "not serving" : "serving unknown";
    if (cause == Cause::kBadGrpcStatus) return "grpc status " + std::to_string(status);
    return std::string(health::to_string(cause));
}

bool served(Cause cause) noexcept {
    return answered(cause) && cause != Cause::kRefused && cause != Cause::kReset;
}

bool answered(Cause cause) noexcept {
    switch (cause) {
        case Cause::kOk:
        case Cause::kRefused:
        case Cause::kReset:
        case Cause::kBadStatus:
        case Cause::kBadResponse:
        case Cause::kBadBody:
        case Cause::kBadAnswer:
        case Cause::kBadRcode:
        case Cause::kTlsFailed:
        case Cause::kCertificateExpired:
        case Cause::kCertificateEarly:
        case Cause::kCertificateUntrusted:
        case Cause::kCertificateName:
        case Cause::kNotServing:
        case Cause::kBadGrpcStatus:
            return true;
        case Cause::kTimeout:
        case Cause::kUnreachable:
        case Cause::kNotSent:
            return false;
    }
    return false;
}

}  // namespace detour::health

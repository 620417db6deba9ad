// What came of one probe: answered, or a named cause.
//
// Plain values, any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "config/model.h"
#include "control/health/now.h"
#include "dataplane/api/types.h"

namespace detour::health {

enum class Cause : std::uint8_t {
    kOk,
    kTimeout,               ///< nothing came back in time
    kRefused,               ///< the host answered with a reset to the SYN, or ICMP port unreachable
    kReset,                 ///< the connection was closed before an answer
    kUnreachable,           ///< no route, or ICMP net/host unreachable
    kBadStatus,             ///< HTTP status not in the wanted list; Outcome::status has it
    kBadResponse,           ///< not the protocol expected
    kBadBody,               ///< HTTP: the wanted text is not in the body
    kBadAnswer,             ///< UDP: not the answer that is expected
    kBadRcode,              ///< DNS: another code than expected; Outcome::status has it
    kTlsFailed,             ///< no handshake, or a broken record behind it
    kCertificateExpired,    ///< of the server, or one above it
    kCertificateEarly,      ///< not valid yet
    kCertificateUntrusted,  ///< from no authority that we know
    kCertificateName,       ///< not made out to the name asked for
    kNotServing,            ///< gRPC: the service says that it is not; Outcome::status has its word
    kBadGrpcStatus,         ///< gRPC: the call failed; Outcome::status has the code
    kNotSent,               ///< shed, or the loop was late: says nothing about the backend
};

/// "timeout", "refused", "reset", "unreachable", "bad_status", "bad_response", "bad_body", "bad_answer",
/// "bad_rcode", "tls_failed", "certificate_expired", "certificate_early", "certificate_untrusted",
/// "certificate_name", "not_serving", "grpc_status", "ok", "not_sent".
[[nodiscard]] std::string_view to_string(Cause cause) noexcept;

struct Outcome {
    Cause cause = Cause::kNotSent;
    std::uint16_t status = 0;   ///< HTTP status, kBadStatus and kOk of an HTTP probe; kBadRcode: the code
    nanoseconds round_trip{0};  ///< kOk: send to answer
    std::optional<std::chrono::sys_seconds> certificate_end;  ///< TLS: when the server's certificate ends
    bool operator==(const Outcome&) const = default;
    /// "status 503", "rcode 2", "timeout", …
    [[nodiscard]] std::string to_string() const;
};

/// True for an outcome that shows that somebody at the site is alive, however badly it answers.
[[nodiscard]] bool answered(Cause cause) noexcept;
/// True for an answer of the service itself, however bad: what it said over is alive, and so are the
/// connections of its clients. Not for a reset, which is what a crashed service's or restarted host's kernel
/// says.
[[nodiscard]] bool served(Cause cause) noexcept;

/// A probe that takes the way of the traffic: to the VIP, in the tunnel to ProbeRequest::address.
struct ProbeTunnel {
    api::IpAddress vip;
    api::Encap encap = api::Encap::kGue;
    std::uint32_t mtu = 1500;  ///< of the next hop, IP bytes
    bool operator==(const ProbeTunnel&) const = default;
};

/// One probe to be sent now. The sender must report exactly one outcome with the same serial, at the latest
/// when `health->timeout` has passed; kNotSent if it could not be sent.
struct ProbeRequest {
    api::BackendId backend;
    std::uint64_t serial = 0;  ///< unique for the engine's life
    api::IpAddress address;
    std::shared_ptr<const config::Health> health;
    std::optional<ProbeTunnel> tunnel = std::nullopt;  ///< present with Via::kTunnel
};

}  // namespace detour::health

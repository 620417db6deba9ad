// One call of grpc.health.v1.Health/Check, as bytes to send and bytes that came: HTTP/2 by nghttp2, the
// framing of gRPC ("gRPC over HTTP2") and the two messages of health.proto.
//
// No sockets; not thread safe; owns its session. What a server sends is not trusted: it is bounded, and what
// is no answer is a named cause.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "control/health/outcome.h"

namespace detour::health {

/// The request's message with gRPC's prefix.
[[nodiscard]] std::string grpc_health_request(std::string_view service);
/// The status in a prefixed HealthCheckResponse: 0 unknown, 1 serving, 2 not serving, 3 no such service;
/// negative when it is none.
[[nodiscard]] int read_grpc_health(std::string_view body);

struct GrpcTarget {
    std::string authority;
    std::string service;  ///< empty: the whole server
    bool tls = false;
};

class GrpcCall {
  public:
    explicit GrpcCall(const GrpcTarget& target);
    ~GrpcCall();
    GrpcCall(const GrpcCall&) = delete;
    GrpcCall& operator=(const GrpcCall&) = delete;

    /// What is to be sent now; may be empty.
    [[nodiscard]] std::string output();
    /// After it, output() may have more.
    void input(std::string_view bytes);
    /// The server closed the connection.
    void end();

    [[nodiscard]] bool done() const;
    /// Valid when done.
    [[nodiscard]] Outcome outcome() const;

  private:
    struct Session;
    std::unique_ptr<Session> session_;
};

}  // namespace detour::health

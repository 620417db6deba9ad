// An HTTP/1.1 health request and the head of its answer (RFC 9112). The body is http_body's.
//
// Pure, any thread. What a server sends is not trusted: sizes are bounded, everything that is not a head is
// kBad.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "config/model.h"
#include "dataplane/api/types.h"

namespace detour::health {

inline constexpr std::size_t kMaxHeadBytes = 16U << 10U;

/// Who is asked: the configured host, for TLS the server's name, else the address; with its port.
[[nodiscard]] std::string http_authority(const config::Health& health, const api::IpAddress& address);

/// With Host and "Connection: close". Without a configured host the address stands there, with its port.
/// A header that says nothing fills it up to `least` bytes.
[[nodiscard]] std::string http_request(const config::Health& health, const api::IpAddress& address,
                                       std::size_t least = 0);

/// Neither: the body ends with the connection.
struct HttpFraming {
    std::optional<std::uint64_t> length;
    bool chunked = false;  ///< stronger than a length
};

/// Collects bytes up to the empty line behind the headers. Interim answers (1xx) are passed over.
class HttpHead {
  public:
    enum class State : std::uint8_t { kMore, kDone, kBad };

    /// `bytes` as they came. After kDone or kBad nothing more is taken.
    State feed(std::string_view bytes);
    /// Valid after kDone: 200 … 999.
    [[nodiscard]] std::uint16_t status() const noexcept { return status_; }
    /// Valid after kDone: how the body is delimited.
    [[nodiscard]] const HttpFraming& framing() const noexcept { return framing_; }
    /// Valid after kDone: the head's bytes, of all that were fed.
    [[nodiscard]] std::size_t size() const noexcept { return line_start_; }
    /// Something came, though not a whole head.
    [[nodiscard]] bool started() const noexcept { return !buffer_.empty(); }

  private:
    State read_line(std::string_view line);
    void read_field(std::string_view name, std::string_view value);

    std::string buffer_;
    std::size_t line_start_ = 0;
    bool in_headers_ = false;
    std::uint16_t status_ = 0;
    HttpFraming framing_;
    State state_ = State::kMore;
};

}  // namespace detour::health

// An HTTP/1.1 health request and the head of its answer (RFC 9112). The body is not read.
//
// Pure, any thread. What a server sends is not trusted: sizes are bounded, everything that is not a head is
// kBad.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "config/model.h"
#include "dataplane/api/types.h"

namespace detour::health {

inline constexpr std::size_t kMaxHeadBytes = 16U << 10U;

/// GET with Host and "Connection: close". Without a configured host the address stands there, with its port.
[[nodiscard]] std::string http_request(const config::Health& health, const api::IpAddress& address);

/// Collects bytes up to the empty line behind the headers. Interim answers (1xx) are passed over.
class HttpHead {
  public:
    enum class State : std::uint8_t { kMore, kDone, kBad };

    /// `bytes` as they came. After kDone or kBad nothing more is taken.
    State feed(std::string_view bytes);
    /// Valid after kDone: 200 … 999.
    [[nodiscard]] std::uint16_t status() const noexcept { return status_; }
    /// Something came, though not a whole head.
    [[nodiscard]] bool started() const noexcept { return !buffer_.empty(); }

  private:
    State read_line(std::string_view line);

    std::string buffer_;
    std::size_t line_start_ = 0;
    bool in_headers_ = false;
    std::uint16_t status_ = 0;
    State state_ = State::kMore;
};

}  // namespace detour::health

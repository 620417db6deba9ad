// A backend's name inside QUIC connection ids, as the plaintext mode of QUIC-LB writes it
// (draft-ietf-quic-load-balancers-21, sections 3 and 5.2): the first octet's three high bits choose one of up
// to seven configurations ("config rotation"), and the server id of that configuration's length comes next.
//
// Value type, no threading. The text form is hex digits, "0a1f" for configuration 0, "3:0a1f" for another.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "dataplane/api/result.h"

namespace detour::api {

/// 0 … 6; 7 says "no configuration, go by the addresses".
inline constexpr std::uint8_t kQuicConfigurations = 7;
inline constexpr std::size_t kMaxQuicServerId = 15;  ///< bytes
inline constexpr std::size_t kMinQuicNonce = 4;      ///< bytes that follow the server id, at least
inline constexpr std::size_t kMaxQuicCid = 20;       ///< bytes; of versions 1 and 2

class QuicServerId {
  public:
    QuicServerId() = default;
    /// Errors kLimit: `rotation` above 6, or not 1 to 15 bytes.
    [[nodiscard]] static Result<QuicServerId> make(std::uint32_t rotation, std::string_view bytes);
    /// Errors kInvalidArgument: no hex digits, an odd number of them; and those of make().
    [[nodiscard]] static Result<QuicServerId> parse(std::string_view text);

    [[nodiscard]] std::uint8_t rotation() const noexcept { return rotation_; }
    /// Zeros after size().
    [[nodiscard]] const std::array<std::uint8_t, kMaxQuicServerId>& bytes() const noexcept { return bytes_; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    /// size() bytes.
    [[nodiscard]] std::string wire() const;
    [[nodiscard]] std::string to_string() const;
    auto operator<=>(const QuicServerId&) const noexcept = default;

  private:
    std::uint8_t rotation_ = 0;
    std::uint8_t size_ = 0;
    std::array<std::uint8_t, kMaxQuicServerId> bytes_{};
};

/// Bytes from hex digits. Errors kInvalidArgument.
[[nodiscard]] Result<std::string> bytes_from_hex(std::string_view text);
[[nodiscard]] std::string hex_of(std::string_view bytes);

}  // namespace detour::api

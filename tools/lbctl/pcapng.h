// Captured packets as a pcapng file (draft-ietf-opsawg-pcapng): each port is two interfaces, what it received
// and what it sent; the comment of a packet says what became of it.
//
// Pure: makes bytes, in host order as the format allows. One thread.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace detour::lbctl {

class Pcapng {
  public:
    enum class Way : std::uint8_t { kReceived, kSent };
    struct Packet {
        Way way = Way::kReceived;
        std::string port;
        std::uint64_t time_us = 0;  ///< since 1970
        std::span<const std::uint8_t> bytes;
        std::uint32_t length = 0;  ///< on the wire; at least that of `bytes`
        std::string_view comment;
    };

    /// What a file begins with.
    [[nodiscard]] static std::string header(std::string_view application);
    /// A packet's block, and before it that of its interface when it is the first one there.
    [[nodiscard]] std::string packet(const Packet& packet);

  private:
    std::map<std::string, std::uint32_t> interfaces_;  ///< by name
};

}  // namespace detour::lbctl

// Packets for tests, written layer by layer from the outside in:
//
//     Frame().ether(kRouter, kHost).ipv4("198.51.100.7", "203.0.113.10").tcp(40000, 443,
//     kSyn).payload(10).bytes()
//
// Lengths, protocols and checksums are filled in by bytes() with code of its own, not with the fast path's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace detour::support {

using Bytes = std::vector<std::uint8_t>;

inline constexpr std::uint8_t kFin = 1, kSyn = 2, kRst = 4, kPsh = 8, kAck = 16;

struct TcpFields {
    std::uint16_t source = 0;
    std::uint16_t destination = 0;
    std::uint8_t flags = 0;
    std::uint32_t sequence = 1000;
    std::uint32_t acknowledgement = 0;
    std::uint16_t window = 0;
    Bytes options{};  ///< a multiple of 4
};

struct Ipv4Fields {
    std::uint16_t id = 0;
    bool df = true;
    std::uint8_t ttl = 64;
    std::uint8_t protocol = 0;   ///< 0: from the next layer
    Bytes options{};             ///< a multiple of 4
    std::uint16_t fragment = 0;  ///< offset and MF as in the header, ORed in
};

class Frame {
  public:
    Frame& ether(std::string_view source, std::string_view destination);
    Frame& vlan(std::uint16_t id, std::uint16_t type = 0x8100);
    Frame& ipv4(std::string_view source, std::string_view destination, Ipv4Fields fields = {});
    Frame& ipv6(std::string_view source, std::string_view destination, std::uint8_t hop_limit = 64);
    /// An IPv6 extension header of `type` with `units` x 8 bytes more than its first 8.
    Frame& extension(std::uint8_t type, std::uint8_t units = 0);
    /// An IPv6 fragment header.
    Frame& fragment(std::uint16_t offset_and_more);
    Frame& tcp(TcpFields fields);
    Frame& udp(std::uint16_t source, std::uint16_t destination, bool zero_checksum = false);
    Frame& gre();
    Frame& icmp(std::uint8_t type, std::uint8_t code, std::uint32_t rest);
    Frame& payload(std::size_t size);
    Frame& raw(Bytes bytes);
    /// Another frame's bytes from its IP header on: what a tunnel carries.
    Frame& inner(const Bytes& frame, std::size_t link_header = 14);

    [[nodiscard]] Bytes bytes() const;

  private:
    struct Layer {
        enum class Kind { kEther, kVlan, kIpv4, kIpv6, kExtension, kTcp, kUdp, kGre, kIcmp, kRaw } kind;
        Bytes head;
        std::uint8_t flag = 0;
    };
    [[nodiscard]] std::uint16_t ether_type_after(std::size_t index) const;
    [[nodiscard]] std::uint8_t protocol_after(std::size_t index) const;
    void finish(std::size_t index, Bytes& tail, Bytes& self) const;
    [[nodiscard]] const Layer* network_before(std::size_t index) const;

    std::vector<Layer> layers_;
};

[[nodiscard]] Bytes address_bytes(std::string_view text);
/// Ones'-complement sum of 16-bit big-endian words, complemented.
[[nodiscard]] std::uint16_t plain_checksum(const Bytes& bytes);
/// "45 00 00 28 …", 16 a line, for failure messages.
[[nodiscard]] std::string hex(const Bytes& bytes);

}  // namespace detour::support

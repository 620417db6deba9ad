#include "tests/support/packets.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <cstdio>
#include <stdexcept>
#include <string>

namespace detour::support {
namespace {

void put16(Bytes& b, std::size_t at, std::size_t value) {
    b.at(at) = static_cast<std::uint8_t>(value >> 8U);
    b.at(at + 1) = static_cast<std::uint8_t>(value);
}

void put32(Bytes& b, std::size_t at, std::uint32_t value) {
    put16(b, at, value >> 16U);
    put16(b, at + 2, value & 0xffffU);
}

void append(Bytes& to, const Bytes& from) {
    to.insert(to.end(), from.begin(), from.end());
}

Bytes mac_bytes(std::string_view text) {
    Bytes out(6);
    unsigned m[6];
    if (std::sscanf(std::string(text).c_str(), "%x:%x:%x:%x:%x:%x", &m[0], &m[1], &m[2], &m[3], &m[4],
                    &m[5]) != 6) {
        throw std::invalid_argument("no MAC: " + std::string(text));
    }
    for (std::size_t i = 0; i < 6; ++i) out[i] = static_cast<std::uint8_t>(m[i]);
    return out;
}

}  // namespace

Bytes address_bytes(std::string_view text) {
    const std::string s(text);
    const bool v6 = s.find(':') != std::string::npos;
    Bytes out(v6 ? 16 : 4);
    if (inet_pton(v6 ? AF_INET6 : AF_INET, s.c_str(), out.data()) != 1)
        throw std::invalid_argument("no address: " + s);
    return out;
}

std::uint16_t plain_checksum(const Bytes& bytes) {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < bytes.size(); i += 2) {
        sum += static_cast<std::uint32_t>(bytes[i]) << 8U;
        if (i + 1 < bytes.size()) sum += bytes[i + 1];
        sum = (sum & 0xffffU) + (sum >> 16U);
    }
    return static_cast<std::uint16_t>(~sum);
}

std::string hex(const Bytes& bytes) {
    std::string out;
    for (std::size_t i = 0; i < bytes.size(); ++i)
        out += fmt::format("{:02x}{}", bytes[i], i % 16 == 15 ? '\n' : ' ');
    return out;
}

Frame& Frame::ether(std::string_view source, std::string_view destination) {
    Bytes head = mac_bytes(destination);
    append(head, mac_bytes(source));
    head.resize(14);
    layers_.push_back({Layer::Kind::kEther, head});
    return *this;
}

Frame& Frame::vlan(std::uint16_t id, std::uint16_t type) {
    Bytes head(4);
    put16(head, 0, id);
    // The tag's own EtherType stands in the layer before it.
    layers_.push_back({Layer::Kind::kVlan, head, static_cast<std::uint8_t>(type == 0x88a8 ? 1 : 0)});
    return *this;
}

Frame& Frame::ipv4(std::string_view source, std::string_view destination, Ipv4Fields f) {
    Bytes head(20 + f.options.size());
    head[0] = static_cast<std::uint8_t>(0x40U | (head.size() / 4));
    put16(head, 4, f.id);
    put16(head, 6, (f.df ? 0x4000U : 0U) | f.fragment);
    head[8] = f.ttl;
    head[9] = f.protocol;
    const Bytes from = address_bytes(source);
    const Bytes to = address_bytes(destination);
    std::copy(from.begin(), from.end(), head.begin() + 12);
    std::copy(to.begin(), to.end(), head.begin() + 16);
    std::copy(f.options.begin(), f.options.end(), head.begin() + 20);
    layers_.push_back({Layer::Kind::kIpv4, head});
    return *this;
}

Frame& Frame::ipv6(std::string_view source, std::string_view destination, std::uint8_t hop_limit) {
    Bytes head(40);
    head[0] = 0x60;
    head[7] = hop_limit;
    const Bytes from = address_bytes(source);
    const Bytes to = address_bytes(destination);
    std::copy(from.begin(), from.end(), head.begin() + 8);
    std::copy(to.begin(), to.end(), head.begin() + 24);
    layers_.push_back({Layer::Kind::kIpv6, head});
    return *this;
}

Frame& Frame::extension(std::uint8_t type, std::uint8_t units) {
    Bytes head(8U * (1U + units));
    // AH counts in 4 bytes, minus 2 (RFC 4302); the others in 8, minus 1.
    head[1] = type == 51 ? static_cast<std::uint8_t>(head.size() / 4 - 2) : units;
    layers_.push_back({Layer::Kind::kExtension, head, type});
    return *this;
}

Frame& Frame::fragment(std::uint16_t offset_and_more) {
    Bytes head(8);
    put16(head, 2, offset_and_more);
    layers_.push_back({Layer::Kind::kExtension, head, 44});
    return *this;
}

Frame& Frame::tcp(TcpFields f) {
    Bytes head(20 + f.options.size());
    put16(head, 0, f.source);
    put16(head, 2, f.destination);
    put32(head, 4, f.sequence);
    put32(head, 8, f.acknowledgement);
    head[12] = static_cast<std::uint8_t>(head.size() / 4 << 4U);
    head[13] = f.flags;
    put16(head, 14, f.window);
    std::copy(f.options.begin(), f.options.end(), head.begin() + 20);
    layers_.push_back({Layer::Kind::kTcp, head});
    return *this;
}

Frame& Frame::udp(std::uint16_t source, std::uint16_t destination, bool zero_checksum) {
    Bytes head(8);
    put16(head, 0, source);
    put16(head, 2, destination);
    layers_.push_back({Layer::Kind::kUdp, head, static_cast<std::uint8_t>(zero_checksum ? 1 : 0)});
    return *this;
}

Frame& Frame::gre() {
    layers_.push_back({Layer::Kind::kGre, Bytes(4)});
    return *this;
}

Frame& Frame::icmp(std::uint8_t type, std::uint8_t code, std::uint32_t rest) {
    Bytes head(8);
    head[0] = type;
    head[1] = code;
    put32(head, 4, rest);
    layers_.push_back({Layer::Kind::kIcmp, head});
    return *this;
}

Frame& Frame::payload(std::size_t size) {
    Bytes data(size);
    for (std::size_t i = 0; i < size; ++i) data[i] = static_cast<std::uint8_t>('a' + i % 26);
    return raw(std::move(data));
}

Frame& Frame::raw(Bytes bytes) {
    layers_.push_back({Layer::Kind::kRaw, std::move(bytes)});
    return *this;
}

Frame& Frame::inner(const Bytes& frame, std::size_t link_header) {
    return raw(Bytes(frame.begin() + static_cast<std::ptrdiff_t>(link_header), frame.end()));
}

std::uint16_t Frame::ether_type_after(std::size_t index) const {
    if (index + 1 >= layers_.size()) return 0;
    const Layer& next = layers_[index + 1];
    switch (next.kind) {
        case Layer::Kind::kVlan:
            return next.flag != 0 ? 0x88a8 : 0x8100;
        case Layer::Kind::kIpv4:
            return 0x0800;
        case Layer::Kind::kIpv6:
            return 0x86dd;
        case Layer::Kind::kRaw:
            return !next.head.empty() && next.head[0] >> 4U == 6 ? 0x86dd : 0x0800;
        default:
            return 0;
    }
}

std::uint8_t Frame::protocol_after(std::size_t index) const {
    if (index + 1 >= layers_.size()) return 59;
    const Layer& next = layers_[index + 1];
    const Layer* network = network_before(index + 1);
    const bool v6 = network != nullptr && network->kind == Layer::Kind::kIpv6;
    switch (next.kind) {
        case Layer::Kind::kTcp:
            return 6;
        case Layer::Kind::kUdp:
            return 17;
        case Layer::Kind::kGre:
            return 47;
        case Layer::Kind::kIcmp:
            return v6 ? 58 : 1;
        case Layer::Kind::kExtension:
            return next.flag;
        case Layer::Kind::kRaw:
            return !next.head.empty() && next.head[0] >> 4U == 6 ? 41 : 4;
        default:
            return 0;
    }
}

const Frame::Layer* Frame::network_before(std::size_t index) const {
    while (index-- > 0) {
        if (layers_[index].kind == Layer::Kind::kIpv4 || layers_[index].kind == Layer::Kind::kIpv6)
            return &layers_[index];
    }
    return nullptr;
}

namespace {

/// Pseudo header of RFC 9293 / RFC 8200 for the network layer `head`.
Bytes pseudo_header(const Bytes& head, std::uint8_t protocol, std::size_t length) {
    Bytes pseudo;
    if (head[0] >> 4U == 4) {
        pseudo.assign(head.begin() + 12, head.begin() + 20);
        pseudo.push_back(0);
        pseudo.push_back(protocol);
        pseudo.resize(12);
        put16(pseudo, 10, length);
    } else {
        pseudo.assign(head.begin() + 8, head.begin() + 40);
        pseudo.resize(40);
        put16(pseudo, 34, length);
        pseudo[39] = protocol;
    }
    return pseudo;
}

}  // namespace

void Frame::finish(std::size_t index, Bytes& tail, Bytes& self) const {
    const Layer& layer = layers_[index];
    const Layer* network = network_before(index);
    const auto with_pseudo = [&](std::uint8_t protocol, std::size_t at) {
        Bytes all = pseudo_header(network->head, protocol, self.size() + tail.size());
        append(all, self);
        append(all, tail);
        put16(self, at, plain_checksum(all));
    };
    switch (layer.kind) {
        case Layer::Kind::kEther:
            put16(self, 12, ether_type_after(index));
            break;
        case Layer::Kind::kVlan:
            put16(self, 2, ether_type_after(index));
            break;
        case Layer::Kind::kIpv4:
            put16(self, 2, self.size() + tail.size());
            if (self[9] == 0) self[9] = protocol_after(index);
            put16(self, 10, plain_checksum(self));
            break;
        case Layer::Kind::kIpv6:
            put16(self, 4, tail.size());
            self[6] = protocol_after(index);
            break;
        case Layer::Kind::kExtension:
            self[0] = protocol_after(index);
            break;
        case Layer::Kind::kTcp:
            with_pseudo(6, 16);
            break;
        case Layer::Kind::kUdp:
            put16(self, 4, self.size() + tail.size());
            if (layer.flag == 0) with_pseudo(17, 6);
            break;
        case Layer::Kind::kGre:
            put16(self, 2, ether_type_after(index));
            break;
        case Layer::Kind::kIcmp:
            if (network->kind == Layer::Kind::kIpv6) {
                with_pseudo(58, 2);
            } else {
                Bytes all = self;
                append(all, tail);
                put16(self, 2, plain_checksum(all));
            }
            break;
        case Layer::Kind::kRaw:
            break;
    }
}

Bytes Frame::bytes() const {
    Bytes tail;
    for (std::size_t i = layers_.size(); i-- > 0;) {
        Bytes self = layers_[i].head;
        finish(i, tail, self);
        append(self, tail);
        tail = std::move(self);
    }
    return tail;
}

}  // namespace detour::support

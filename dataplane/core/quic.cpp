#include "dataplane/core/quic.h"

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "dataplane/core/bytes.h"
#include "dataplane/core/tables.h"

namespace detour::core {
namespace {

constexpr std::uint8_t kLongHeader = 0x80;
constexpr std::uint32_t kVersion1 = 0x00000001;
constexpr std::uint32_t kVersion2 = 0x6b3343cf;
constexpr std::size_t kCidLengthAt = 5;  ///< in a long header, after the first byte and the version

/// The long header's type that means Handshake; the versions number their types differently (RFC 9369, 3.2).
bool is_handshake(std::uint8_t first, std::uint32_t version) noexcept {
    const unsigned type = first >> 4U & 3U;
    return (version == kVersion1 && type == 2) || (version == kVersion2 && type == 3);
}

}  // namespace

std::span<const std::uint8_t> server_chosen_cid(std::span<const std::uint8_t> datagram) noexcept {
    if (datagram.empty()) return {};
    const std::uint8_t first = datagram[0];
    if ((first & kLongHeader) == 0)
        return datagram.subspan(1, std::min(datagram.size() - 1, api::kMaxQuicCid));
    if (datagram.size() <= kCidLengthAt) return {};
    if (!is_handshake(first, load_be32(datagram.data() + 1))) return {};
    const std::size_t length = datagram[kCidLengthAt];
    if (length > api::kMaxQuicCid || datagram.size() < kCidLengthAt + 1 + length) return {};
    return datagram.subspan(kCidLengthAt + 1, length);
}

QuicServers::QuicServers(std::size_t count) : slots_(std::bit_ceil(count * 2 + 1)) {}

QuicServers::Key QuicServers::key_of(const std::uint8_t* id, std::size_t length,
                                     std::uint8_t rotation) noexcept {
    std::array<std::uint8_t, sizeof(Key)> bytes{};
    std::memcpy(bytes.data(), id, length);
    bytes.back() = static_cast<std::uint8_t>(1 + rotation);
    return std::bit_cast<Key>(bytes);
}

// Ids are the operator's, and there is a slot that is empty: nobody can make a lookup long.
std::size_t QuicServers::position(const Key& key) const noexcept {
    return _mm_crc32_u64(_mm_crc32_u64(0, key[0]), key[1]) & (slots_.size() - 1);
}

void QuicServers::insert(const api::QuicServerId& id, std::uint16_t backend) noexcept {
    lengths_[id.rotation()] = static_cast<std::uint8_t>(id.size());
    const Key key = key_of(id.bytes().data(), id.size(), id.rotation());
    std::size_t i = position(key);
    while (slots_[i].key[1] != 0) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = {key, backend};
}

std::uint16_t QuicServers::find(std::span<const std::uint8_t> cid) const noexcept {
    if (cid.empty()) return kNoBackendId;
    const auto rotation = static_cast<std::uint8_t>(cid[0] >> 5U);
    const std::size_t length = lengths_[rotation];
    if (length == 0 || cid.size() < 1 + length + api::kMinQuicNonce) return kNoBackendId;
    const Key key = key_of(cid.data() + 1, length, rotation);
    for (std::size_t i = position(key); slots_[i].key[1] != 0; i = (i + 1) & (slots_.size() - 1)) {
        if (slots_[i].key == key) return slots_[i].backend;
    }
    return kNoBackendId;
}

}  // namespace detour::core

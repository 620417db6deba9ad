// A client's packet made from a description, for the fast path to trace.
//
// Pure, any thread. Only what the fast path looks at is filled in: transport checksums are 0.
#pragma once

#include <cstdint>
#include <string>

#include "control/plan/predict.h"

namespace detour::plan {

enum class Segment : std::uint8_t { kSyn, kAck, kData, kFin, kRst };

struct DescribedPacket {
    Flow flow;                        ///< with a cid: a QUIC packet with a short header
    Segment segment = Segment::kSyn;  ///< of TCP
    std::uint32_t size = 0;           ///< of the whole IP packet, bytes; 0: as short as it can be
};

/// From the IP header on. Errors kInvalidArgument: families differ; a size that does not hold its headers, or
/// above 9978.
[[nodiscard]] api::Result<std::string> make_packet(const DescribedPacket& described);

}  // namespace detour::plan

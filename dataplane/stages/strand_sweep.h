// The sweep: tells clients of stranded flows that wait, download or idle, and so send nothing to be answered.
//
// It walks the flow tables once when a switch strands flows (or a plan takes a backend away), confirmed flows
// before those seen once. A stranded client is reset from the last ACK that was seen: a RST with that number,
// then a bare ACK just below it. A client that took the RST has no such connection any more and answers the
// ACK with a RST: done. One that sent an ACK that never came here ignores the RST, which is below its window,
// and answers the ACK with its exact number (RFC 9293 section 3.10.7.4, RFC 5961): that answer is a segment
// of a stranded flow and is reset like any other. Who has not answered after some seconds is told once more.
//
// Where flows are ended though their backends live (end_flows), only the ACK is sent: the answer brings the
// exact numbers of both sides, and then both are reset.
//
// Every RST takes a token of the host's budget; without one the walk stays where it is. A question whose
// answer will be reset has paid for that already. One owner, bounded work a call, nothing at all while
// nothing is stranded.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dataplane/core/batch.h"

namespace detour::stages {

struct Context;

enum class SweepPhase : std::uint8_t {
    kIdle,
    kConfirmed,  ///< established flows
    kOthers,     ///< and those seen once
    kWait,       ///< for answers
    kAgain,      ///< those who gave none
};

/// Where the sweep of one worker is.
struct StrandSweep {
    std::uint32_t seen = 0;      ///< HostState::strandings() when it began
    bool lost_backends = false;  ///< set by the ageing scan: entries whose backend left the plan
    SweepPhase phase = SweepPhase::kIdle;
    std::size_t position = 0;    ///< next bucket, v4 before v6
    std::size_t left = 0;        ///< buckets until the phase is done
    std::uint64_t again_at = 0;  ///< monotonic ns
};

enum class SweepResult : std::uint8_t {
    kNothing,  ///< nothing to do now
    kMore,     ///< call again soon
    kBlocked,  ///< waits for tokens
};

/// Walks up to `buckets` buckets and puts segments on the worker's queue, which must have been emptied since
/// the last call for it to go on.
[[nodiscard]] SweepResult sweep_stranded(const Context& context, std::size_t buckets) noexcept;

/// Puts RSTs for a living backend on the queue, from the segment that its client just sent.
void reset_backend(const core::Packet& packet, std::uint16_t backend, const Context& context) noexcept;

}  // namespace detour::stages

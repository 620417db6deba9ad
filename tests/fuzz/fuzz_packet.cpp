// The whole pipeline on arbitrary frames. The first byte chooses the plan; the rest is frames of 2-byte
// length and bytes.
//
// Beside what the sanitizers see: every packet ends in a verdict and one counted reason, and an answer or a
// tunnelled packet is no longer than its input and the largest outer header. Each is traced first, which
// changes nothing.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>

#include "dataplane/stages/trace.h"
#include "tests/support/fast_path.h"

using namespace detour;
using namespace detour::support;

namespace {

std::unique_ptr<FastPath>& plan_for(std::uint8_t choice) {
    static std::array<std::unique_ptr<FastPath>, 16> paths;
    auto& path = paths[choice % paths.size()];
    if (path == nullptr) {
        const PlanOptions options{.encap = static_cast<api::Encap>(choice % 3),
                                  .v6_backends = (choice & 4U) != 0,
                                  .stranded = static_cast<api::Stranded>(choice % 3),
                                  .hash = static_cast<api::HashKey>((choice + choice / 4U) % 3),
                                  .on_empty = static_cast<api::Refusal>(choice >> 3U & 1U)};
        path = std::make_unique<FastPath>(make_plan(options), 64);
        if ((choice & 8U) != 0)
            path->host.set_site(api::SiteId{1},
                                {api::kAdmitNone, api::kAdmitNone, false, (choice & 4U) != 0});
        if ((choice & 2U) != 0) path->host.set_limit(api::SiteId{2}, {true, 20, api::Refusal::kReset});
    }
    return path;
}

void require(bool condition) {
    if (!condition) std::abort();
}

std::uint64_t counted(const FastPath& fast) {
    std::uint64_t sum = 0;
    for (std::size_t r = 0; r < api::kReasonCount; ++r) sum += fast.count(static_cast<api::Reason>(r));
    return sum;
}

/// The packet as lbctl trace would have it: from behind its Ethernet header on.
void trace(const FastPath& fast, const Bytes& frame) {
    static stages::Tracer tracer({});
    constexpr std::size_t kEthernet = 14;
    if (frame.size() < kEthernet) return;
    const auto traced =
        tracer.trace(std::span(frame).subspan(kEthernet), *fast.tables, fast.host, fast.now());
    require(traced.frame.size() <= frame.size() + api::kMaxEncapBytes);
}

/// A random frame rarely has a right IPv4 checksum: half of the inputs get it made right, to reach what lies
/// behind.
void mend_checksum(Bytes& frame) {
    if (frame.size() < 34 || frame[12] != 8 || frame[13] != 0) return;
    const std::size_t header = std::min<std::size_t>((frame[14] & 0xfU) * 4U, frame.size() - 14);
    frame[24] = frame[25] = 0;
    const std::uint16_t sum =
        plain_checksum(Bytes(frame.begin() + 14, frame.begin() + 14 + static_cast<std::ptrdiff_t>(header)));
    frame[24] = static_cast<std::uint8_t>(sum >> 8U);
    frame[25] = static_cast<std::uint8_t>(sum);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 3) return 0;
    FastPath& fast = *plan_for(data[0]);
    std::size_t at = 1;
    while (at + 2 <= size) {
        const std::size_t length =
            std::min<std::size_t>(static_cast<std::size_t>(data[at] << 8U | data[at + 1]), size - at - 2);
        Bytes frame(data + at + 2, data + at + 2 + length);
        at += 2 + length;
        if ((data[0] & 16U) != 0) mend_checksum(frame);
        const std::uint64_t before = counted(fast);
        trace(fast, frame);
        require(counted(fast) == before);
        const Out out = fast.send(frame);
        require(out.verdict != core::Verdict::kPending);
        // A fragment that waits is counted when it goes; others may go with it.
        require(out.verdict == core::Verdict::kHold || counted(fast) > before);
        require(counted(fast) <= before + 1 + core::FragmentCache::kSlots);
        (void)fast.resume();
        require(out.bytes.size() <= frame.size() + api::kMaxEncapBytes);
    }
    fast.advance(std::chrono::milliseconds(100));
    fast.worker->sweep(*fast.tables, 8);
    // Flows of an earlier input are found by a later one's walk.
    (void)fast.sweep_stranded(64);
    for (const Made& made : fast.made())
        require(made.bytes.size() <= core::kSegmentHeadroom + core::kSegmentBytes);
    return 0;
}

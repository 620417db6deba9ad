#include "dataplane/stages/capture.h"

#include <algorithm>
#include <cstring>

#include "dataplane/stages/known_ids.h"

namespace detour::stages {

CaptureLane::CaptureLane(const CaptureFilter& filter, std::uint32_t workers, std::uint64_t seed)
    : filter_(filter),
      random_(seed | 1U),
      slots_(kSlots),
      bytes_(kSlots * 2 * static_cast<std::size_t>(filter.snap)) {
    const std::uint64_t pace = (kPacesPerSecond + workers - 1) / workers;
    pace_.set_rate(pace, kSlots);
    gap_ = next_gap();
}

/// Even from 1 to 2 x sample - 1: no period of the traffic can hide from it.
std::uint32_t CaptureLane::next_gap() noexcept {
    if (filter_.sample <= 1) return 1;
    random_ ^= random_ << 13U;
    random_ ^= random_ >> 7U;
    random_ ^= random_ << 17U;
    const std::uint64_t range = 2 * std::uint64_t{filter_.sample} - 1;
    return static_cast<std::uint32_t>(1 + (random_ >> 32U) * range / (1ULL << 32U));
}

void CaptureLane::begin(const core::Batch& batch) noexcept {
    chosen_count_ = 0;
    for (std::uint32_t i = 0; i < batch.count; ++i) {
        if (--gap_ != 0) continue;
        gap_ = next_gap();
        const core::Packet& p = batch.packets[i];
        Chosen& c = chosen_[chosen_count_++];
        c.index = i;
        c.length = p.length;
        c.port = p.port;
        c.data = p.data;
        std::memcpy(c.head.data(), p.data, std::min<std::size_t>(p.length, kHead));
    }
}

bool CaptureLane::wanted(const core::Packet& p) const noexcept {
    if (p.verdict == core::Verdict::kHold) return false;  // it comes again
    if (filter_.reason && *filter_.reason != p.reason) return false;
    if (filter_.pool && (!knows_pool(p.reason) || filter_.pool->value() != p.pool_id)) return false;
    return !filter_.site || (knows_backend(p.reason) && filter_.site->value() == p.site);
}

void CaptureLane::end(const core::Batch& batch, std::uint64_t now_ns) noexcept {
    sampled_.store(sampled() + chosen_count_, std::memory_order_relaxed);
    for (std::uint32_t i = 0; i < chosen_count_; ++i) {
        const Chosen& chosen = chosen_[i];
        const core::Packet& p = batch.packets[chosen.index];
        if (!wanted(p)) continue;
        const std::uint32_t waiting =
            written_.load(std::memory_order_relaxed) - taken_.load(std::memory_order_acquire);
        if (waiting == kSlots || !pace_.take(now_ns)) {
            missed_.store(missed() + 1, std::memory_order_relaxed);
        } else {
            write(chosen, p, now_ns);
        }
    }
}

void CaptureLane::write(const Chosen& chosen, const core::Packet& p, std::uint64_t now_ns) noexcept {
    const std::uint32_t position = written_.load(std::memory_order_relaxed);
    Slot& slot = slots_[position % kSlots];
    std::uint8_t* before = bytes_.data() + 2 * static_cast<std::size_t>(filter_.snap) * (position % kSlots);
    const bool sent = p.verdict == core::Verdict::kTransmit;
    // Where a tunnel was put before it, all behind the head is as it came; an answer is written over it.
    const bool whole = !sent || api::is_forwarded(p.reason);
    const std::size_t head = std::min<std::size_t>({chosen.length, kHead, filter_.snap});
    const std::size_t kept = whole ? std::min<std::size_t>(chosen.length, filter_.snap) : head;
    std::memcpy(before, chosen.head.data(), head);
    std::memcpy(before + head, chosen.data + head, kept - head);
    slot.before_kept = static_cast<std::uint16_t>(kept);
    slot.after_kept = sent ? std::min(p.length, filter_.snap) : std::uint16_t{0};
    std::memcpy(before + filter_.snap, p.data, slot.after_kept);
    slot.packet = {.time_ns = now_ns,
                   .pool = knows_pool(p.reason) ? p.pool_id : std::uint16_t{0},
                   .backend = p.backend,
                   .site = p.site,
                   .reason = p.reason,
                   .port = chosen.port,
                   .sent_port = p.port,
                   .before_length = chosen.length,
                   .after_length = sent ? p.length : std::uint16_t{0}};
    written_.store(position + 1, std::memory_order_release);
}

Captured CaptureLane::at(std::uint32_t position) const noexcept {
    const Slot& slot = slots_[position % kSlots];
    const std::uint8_t* before =
        bytes_.data() + 2 * static_cast<std::size_t>(filter_.snap) * (position % kSlots);
    Captured out = slot.packet;
    out.before = {before, slot.before_kept};
    out.after = {before + filter_.snap, slot.after_kept};
    return out;
}

CaptureSession::CaptureSession(std::uint64_t id, const CaptureFilter& filter, std::uint32_t workers,
                               std::uint64_t until_ns)
    : id_(id), until_ns_(until_ns) {
    for (std::uint32_t i = 0; i < workers; ++i)
        lanes_.push_back(std::make_unique<CaptureLane>(filter, workers, (id + i) * 0x9e3779b97f4a7c15ULL));
}

}  // namespace detour::stages

#include "dataplane/core/maglev.h"

#include <algorithm>
#include <array>

#include "dataplane/core/hash.h"

namespace detour::core {
namespace {

constexpr std::uint32_t kEntriesPerBackend = 320;

/// The first prime from 320 x n on, for n of a grid that grows by a quarter or a third at each step.
constexpr std::array<std::uint32_t, 34> kPrimes{
    331,    641,    967,    1283,   1601,   1931,   2579,   3203,   3847,   5147,   6421,   7681,
    10243,  12809,  15361,  20483,  25601,  30727,  40961,  51203,  61441,  81929,  102407, 122887,
    163841, 204803, 245771, 327689, 409609, 491527, 655373, 819229, 983063, 1310723};

constexpr std::uint16_t kFree = 65535;

/// Steps that a walk takes before it is drawn anew. Walks of one offset and skip for good resemble each other
/// now and then, and then a member that comes moves twice as many entries as others do (ADR 12).
constexpr std::uint32_t kStepsPerWalk = 256;
/// Walks drawn, for each entry of the table; the last one is followed until it has seen every entry.
constexpr std::uint32_t kWalksPerEntry = 1;

/// One member while the table is being filled.
struct Filler {
    std::uint64_t walk = 0;      ///< what its present walk was drawn from
    std::uint32_t walks = 0;     ///< drawn so far
    std::uint32_t steps = 0;     ///< left in it
    std::uint32_t position = 0;  ///< next table index
    std::uint32_t skip = 0;
    std::uint32_t credit = 0;  ///< below 2 x the largest weight
    std::uint32_t weight = 0;
    std::uint32_t taken = 0;
    std::uint16_t backend = 0;
};

/// offset + i x skip modulo the table's size, a prime: for a while, or until all entries were seen.
void draw_walk(Filler& filler, std::uint32_t size) {
    const std::uint64_t offset = mix64(filler.walk);
    filler.walk = mix64(offset + 0x9e3779b97f4a7c15ULL);
    filler.position = static_cast<std::uint32_t>(offset % size);
    filler.skip = static_cast<std::uint32_t>(filler.walk % (size - 1)) + 1;
    filler.steps = kStepsPerWalk;
    ++filler.walks;
}

[[nodiscard]] Filler start(const MaglevMember& member, std::uint32_t size, std::uint64_t seed) {
    Filler filler;
    filler.walk = member.key_hash ^ seed;
    filler.weight = member.weight;
    filler.backend = member.backend;
    draw_walk(filler, size);
    return filler;
}

void step(Filler& filler, std::uint32_t size) {
    if (--filler.steps == 0 && filler.walks < kWalksPerEntry * size) return draw_walk(filler, size);
    filler.position += filler.skip;
    if (filler.position >= size) filler.position -= size;
}

void take_next_free(Filler& filler, std::vector<std::uint16_t>& entries) {
    const auto size = static_cast<std::uint32_t>(entries.size());
    while (entries[filler.position] != kFree) step(filler, size);
    entries[filler.position] = filler.backend;
    ++filler.taken;
    step(filler, size);
}

/// Members take turns in key order. Each round earns a member its weight; a turn costs the largest weight,
/// and everyone starts with half a turn, so that shares are rounded and not cut.
void fill(std::vector<Filler>& fillers, std::vector<std::uint16_t>& entries) {
    std::uint32_t price = 0;
    for (const Filler& filler : fillers) price = std::max(price, filler.weight);
    for (Filler& filler : fillers) filler.credit = price / 2;
    std::size_t left = entries.size();
    while (true) {
        for (Filler& filler : fillers) {
            filler.credit += filler.weight;
            if (filler.credit < price) continue;
            filler.credit -= price;
            take_next_free(filler, entries);
            if (--left == 0) return;
        }
    }
}

/// A member whose weight earned it no turn still gets one entry, taken from a member that has more than one:
/// when it is the last one up, it must be found.
void give_one_to_each(std::vector<Filler>& fillers, std::span<const MaglevMember> members, std::uint64_t seed,
                      std::vector<std::uint16_t>& entries) {
    const auto size = static_cast<std::uint32_t>(entries.size());
    for (std::size_t i = 0; i < fillers.size(); ++i) {
        if (fillers[i].taken != 0) continue;
        Filler walk = start(members[i], size, seed);
        while (true) {
            const auto owner = std::find_if(fillers.begin(), fillers.end(), [&](const Filler& filler) {
                return filler.backend == entries[walk.position];
            });
            if (owner->taken > 1) {
                --owner->taken;
                break;
            }
            step(walk, size);
        }
        entries[walk.position] = fillers[i].backend;
        fillers[i].taken = 1;
    }
}

}  // namespace

std::uint32_t MaglevTable::size_for(std::uint32_t max_backends) noexcept {
    const std::uint32_t wanted = kEntriesPerBackend * std::clamp<std::uint32_t>(max_backends, 1, 4096);
    return *std::lower_bound(kPrimes.begin(), kPrimes.end(), wanted);
}

bool MaglevTable::made_for(std::span<const MaglevMember> members, std::uint32_t max_backends) const noexcept {
    return (size() <= 1 || size() == size_for(max_backends)) && std::ranges::equal(members, members_);
}

std::shared_ptr<const MaglevTable> MaglevTable::build(std::span<const MaglevMember> members,
                                                      std::uint32_t max_backends, std::uint64_t seed) {
    auto table = std::make_shared<MaglevTable>();
    table->members_.assign(members.begin(), members.end());
    std::sort(table->members_.begin(), table->members_.end());
    std::vector<MaglevMember> weighted;
    std::copy_if(table->members_.begin(), table->members_.end(), std::back_inserter(weighted),
                 [](const MaglevMember& member) { return member.weight != 0; });
    if (weighted.empty()) return table;

    if (weighted.size() == 1) {
        // Every index leads to it, so one entry says as much as thousands.
        table->entries_.assign(1, weighted.front().backend);
        return table;
    }
    const std::uint32_t size = size_for(max_backends);
    std::vector<Filler> fillers;
    fillers.reserve(weighted.size());
    for (const MaglevMember& member : weighted) fillers.push_back(start(member, size, seed));
    table->entries_.assign(size, kFree);
    fill(fillers, table->entries_);
    give_one_to_each(fillers, weighted, seed, table->entries_);
    return table;
}

}  // namespace detour::core

// All that operators have asked for and that is in force: drains, a hold of automation, weights. What is on
// disk, and what PoPs tell each other.
//
// Each intent has a stamp; of two for the same thing the later one counts, on every host, whatever the order
// in which they arrive (merge()). One that was taken back leaves its key behind until it would have expired,
// so that a host that has not heard of it can't bring it back. Plain values, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "config/model.h"
#include "control/failover/drain.h"
#include "dataplane/api/result.h"

namespace detour::failover {

/// Intents in force on one host; more are refused.
inline constexpr std::size_t kMaxIntents = 1000;
inline constexpr std::size_t kMaxRemoved = 4096;
inline constexpr std::chrono::hours kDefaultHold{1};

/// Automation stands still: nothing goes dark, comes back, is stranded or ends by itself.
struct Hold {
    std::string reason;
    std::string by;
    health::WallTime since;
    health::WallTime until;
    bool here = false;
    Stamp stamp;
    bool operator==(const Hold&) const = default;
};

/// Another weight than the configuration's: of a site in all its pools, of a site in one, or of a backend.
struct WeightOverride {
    Target target;
    std::uint32_t weight = 100;  ///< 0 … 65535
    std::string reason;
    std::string by;
    health::WallTime since;
    health::WallTime until;
    std::uint64_t configured = 0;  ///< weights_mark() when it was given: a change of it ends the override
    bool here = false;
    Stamp stamp;
    bool operator==(const WeightOverride&) const = default;
};

/// Taken back, and remembered until it would have expired.
struct Removed {
    std::string key;
    health::WallTime until;
    Stamp stamp;
    bool operator==(const Removed&) const = default;
};

struct Intents {
    std::vector<Drain> drains;
    std::optional<Hold> hold;
    std::vector<WeightOverride> weights;
    std::vector<Removed> removed;
    bool operator==(const Intents&) const = default;
    [[nodiscard]] std::size_t size() const noexcept {
        return drains.size() + weights.size() + (hold ? 1 : 0);
    }
};

/// What an intent is about: "drain pangyo", "weight talk@pangyo", "hold". Independent of the configuration.
[[nodiscard]] std::string key_of(const Drain& drain);
[[nodiscard]] std::string key_of(const WeightOverride& weight);
[[nodiscard]] std::string key_of(const Hold& hold);

/// A stamp that is later than all in `intents`, also when the clock was set back.
[[nodiscard]] Stamp next_stamp(const Intents& intents, const std::string& pop, health::WallTime now);

/// Puts one in, in place of the one with its key.
void put(Intents& intents, Drain value);
void put(Intents& intents, WeightOverride value);
void put(Intents& intents, Hold value);
/// Takes one out by its key and remembers that. False when there is none.
bool take_back(Intents& intents, const std::string& key, const Stamp& stamp);

/// What other PoPs should know: all but what is for this PoP alone.
[[nodiscard]] Intents shared(const Intents& intents);
/// The later of each key. What is over at `now` is left out of `theirs`, memories that are over out of the
/// result. Commutative, associative and idempotent as long as nothing is over.
[[nodiscard]] Intents merge(Intents mine, const Intents& theirs, health::WallTime now);

/// The configuration with the weights that are in force.
[[nodiscard]] config::Config with_weights(config::Config config, std::span<const WeightOverride> weights);
/// Stands for the configured weights that an override covers: it changes when one of them does.
[[nodiscard]] std::uint64_t weights_mark(const config::Config& config, const Target& target);

// ---- What is asked for. Durations: 1 s … kLongestDrain.

struct UndrainRequest {
    std::string target;
    std::string by;
};
struct HoldRequest {
    std::chrono::milliseconds duration = kDefaultHold;
    std::string reason;
    std::string by;
    bool here = false;
};
struct ReleaseRequest {
    std::string by;
};
struct WeightRequest {
    std::string target;
    std::optional<std::uint32_t> weight;  ///< absent: as configured again
    std::chrono::milliseconds duration = kDefaultDrain;
    std::string reason;
    std::string by;
    bool force = false;
    bool here = false;
};
/// Another PoP's intents.
struct MergeRequest {
    std::string from;
    Intents theirs;
};
using IntentRequest =
    std::variant<DrainRequest, UndrainRequest, HoldRequest, ReleaseRequest, WeightRequest, MergeRequest>;

}  // namespace detour::failover

// What the control process keeps on disk, as text.
//
// Two files, so that the slow and the careful do not wait for each other: `intents` (drains, hold, weights;
// written and fsynced before an operator gets an answer) and `state` (ids, generation, phases; written when
// convenient, since the fast path holds the same). Each is replaced as a whole (app/durable_file.h) and ends
// with a checksum. Pure functions, any thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "control/failover/admission.h"
#include "control/failover/flap.h"
#include "control/failover/intents.h"
#include "control/plan/ids.h"
#include "dataplane/api/result.h"

namespace detour::app {

struct StoredState {
    api::Generation generation;
    plan::Ids ids;
    std::map<std::string, failover::AdmissionRecord> sites;  ///< by site key
    std::map<std::string, failover::Flaps> flaps;            ///< of those that went dark lately, by site key
    bool operator==(const StoredState&) const = default;
};

/// The same with ids that others use too: cheap to pass to the thread that writes it.
struct StateToWrite {
    api::Generation generation;
    std::shared_ptr<const plan::Ids> ids;
    std::map<std::string, failover::AdmissionRecord> sites;
    std::map<std::string, failover::Flaps> flaps;
};

using StoredIntents = failover::Intents;

[[nodiscard]] std::string encode(const StoredState& state);
[[nodiscard]] std::string encode(const StateToWrite& state);
[[nodiscard]] std::string encode(const StoredIntents& intents);
/// Error kInvalidArgument with the line, or when the checksum does not match.
[[nodiscard]] api::Result<StoredState> decode_state(std::string_view text);
[[nodiscard]] api::Result<StoredIntents> decode_intents(std::string_view text);

}  // namespace detour::app

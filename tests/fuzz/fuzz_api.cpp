// The API's readers on arbitrary bytes: requests, a trace's flows, replies, query strings, times.
//
// Beside what the sanitizers see: what is read is written and read again as the same, and an error has a
// text.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "control/api/json.h"
#include "control/server/query.h"

namespace {

using namespace detour::control;

void require(bool condition) {
    if (!condition) std::abort();
}

enum class Figures { kWhole, kFractions };

template <class T, Figures kFigures = Figures::kWhole>
void read_twice(std::string_view text) {
    const auto first = from_json<T>(text);
    if (!first) {
        require(!first.error().what.empty());
        return;
    }
    const std::string written = to_json(*first);
    const auto second = from_json<T>(written);
    require(second.has_value());
    if constexpr (kFigures == Figures::kWhole) require(to_json(*second) == written);
}

void read_flows(std::string_view text) {
    const auto flows = parse_trace(text);
    if (!flows) {
        require(!flows.error().what.empty());
        return;
    }
    require(flows->size() <= kMaxTraceFlows);
    const std::string written = trace_to_json(*flows);
    const auto again = parse_trace(written);
    require(again.has_value() && trace_to_json(*again) == written);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    read_twice<DrainRequest>(text);
    read_twice<UndrainRequest>(text);
    read_twice<HoldRequest>(text);
    read_twice<WeightRequest>(text);
    read_twice<ReloadRequest>(text);
    read_twice<ConfigDiffRequest>(text);
    read_twice<PacketTraceRequest>(text);
    read_twice<PacketTrace>(text);
    read_twice<CaptureRequest>(text);
    read_twice<CaptureReadRequest>(text);
    read_twice<CapturePage>(text);
    read_twice<Incident, Figures::kFractions>(text);
    read_twice<Event, Figures::kFractions>(text);
    read_twice<Status, Figures::kFractions>(text);
    read_twice<ApiError>(text);
    read_flows(text);
    if (const auto time = parse_time(text)) require(parse_time(to_text(*time)) == *time);
    const auto value = query_value(text, "a");
    require(!value || !*value || (*value)->size() <= size);
    (void)query_number(text, "since");
    return 0;
}

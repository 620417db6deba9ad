// Messages as JSON text and back (docs/api.md).
//
// to_json writes members in the order of messages.h; absent optionals are left out, so are the empty places
// of an Event and of an ApiError. from_json refuses what is not JSON (RFC 8259), a wrong type, a value out of
// range; members of a *request* that are not known are refused too, so that a misspelt "force" is not taken
// for none. A reply's unknown members are ignored: an older client reads a newer server. Errors:
// kInvalidArgument with the member's path. Pure, any thread. Only json.cpp includes Boost.JSON.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/api/messages.h"

namespace detour::control {

/// Any struct of messages.h, ApiError, or a vector of SiteStatus, PoolStatus, BackendStatus, FlowPlacement,
/// IncidentSummary.
template <class T>
[[nodiscard]] std::string to_json(const T& value);
template <class T>
[[nodiscard]] api::Result<T> from_json(std::string_view text);

/// The body of POST /v1/trace: {"flows": [FlowQuery…]}; kLimit above kMaxTraceFlows.
[[nodiscard]] api::Result<std::vector<FlowQuery>> parse_trace(std::string_view text);
[[nodiscard]] std::string trace_to_json(std::span<const FlowQuery> flows);

/// Quoted and escaped; bytes that are not UTF-8 become U+FFFD.
void append_json_string(std::string& out, std::string_view text);

/// "2026-05-01T03:04:05.678901Z".
[[nodiscard]] std::string to_text(Time time);
/// That form, with 0 to 6 digits of fraction, UTC alone.
[[nodiscard]] api::Result<Time> parse_time(std::string_view text);
/// "198.51.100.7:40000" or "[2001:db8::1]:40000".
[[nodiscard]] api::Result<FlowQuery> parse_flow(std::string_view source, std::string_view vip);
/// The bytes of a QUIC connection id in hex, 1 to 20 of them.
[[nodiscard]] api::Result<std::string> parse_cid(std::string_view text);

}  // namespace detour::control

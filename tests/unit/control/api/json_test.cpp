#include <doctest/doctest.h>
#include <fmt/format.h>

#include "control/api/client.h"
#include "control/api/json.h"

using namespace detour;
using namespace detour::control;
using std::chrono::microseconds;

namespace {

const Time kTime = Time(std::chrono::sys_days(std::chrono::year(2026) / 5 / 1)) + std::chrono::hours(3) +
                   microseconds(245'678'901);

Drain a_drain() {
    return {.target = "talk@pangyo",
            .kind = "pool",
            .since = kTime,
            .expires = kTime + std::chrono::hours(4),
            .reason = "a \"quoted\" reason\n",
            .by = "kim (root)",
            .forced = true,
            .last_resort = false,
            .acknowledged = true,
            .new_flows_per_second = 0.5,
            .flows_left = 18'446'744'073'709'551'615U};
}

/// What is written, read and written again is the same text.
template <class T>
void check_round_trip(const T& value) {
    const std::string text = to_json(value);
    CAPTURE(text);
    const auto read = from_json<T>(text);
    REQUIRE_MESSAGE(read.has_value(), (read ? "" : read.error().to_string()));
    CHECK(to_json(*read) == text);
}

}  // namespace

TEST_CASE("every message survives writing and reading") {
    const SiteStatus site{.name = "pangyo",
                          .domain = {"kr", "seongnam"},
                          .tier = "active",
                          .verdict = "dark",
                          .since = kTime,
                          .admit = 0.125,
                          .keep = false,
                          .reason = "2 of 2 backends down: timeout",
                          .backends_up = 0,
                          .backends = 2,
                          .new_flows_per_second = 12.5,
                          .packets_per_second = std::nullopt,
                          .bits_per_second = 1e9,
                          .flows = 7,
                          .capacity_new_flows = 200'000,
                          .drain = a_drain(),
                          .trickle = true,
                          .bfd = {{"10.1.0.1", "down", kTime, "detection-time-expired"}}};
    const PoolStatus pool{
        .name = "talk",
        .vips = {"203.0.113.10:443/tcp"},
        .encap = "gue",
        .hash = "5-tuple",
        .stranded = "reset",
        .priority = 1,
        .min_sites = 1,
        .state = "ok",
        .reason = "",
        .sites = {{"pangyo", "active", 100, 1, 2, 2, 0.5}, {"anyang", "hot", 1, 0, 0, 2, {}}}};
    const BackendStatus backend{.pool = "talk",
                                .site = "pangyo",
                                .address = "10.1.0.11",
                                .weight = 100,
                                .state = "up",
                                .since = kTime,
                                .reason = "ok",
                                .up = true,
                                .keep = true,
                                .probe_ms = 1.25,
                                .drain = std::nullopt};
    const Version version{"0.1.0", 1, "icn1", kTime};
    const Event event{
        .sequence = 3,
        .time = kTime,
        .kind = "switch",
        .severity = "alarm",
        .site = "pangyo",
        .pool = "",
        .backend = "",
        .text = "admit 65535 -> 0",
        .data = {{"from", std::string("healthy")}, {"switch_us", std::int64_t{210}}, {"ok", true}}};
    check_round_trip(version);
    check_round_trip(a_drain());
    check_round_trip(std::vector{site, site});
    check_round_trip(std::vector{pool});
    check_round_trip(std::vector{backend});
    check_round_trip(std::vector<SiteStatus>{});
    check_round_trip(event);
    check_round_trip(EventPage{1, 3, {event, event}});
    check_round_trip(Status{version,
                            kTime,
                            "alarm",
                            {"site pangyo is dark"},
                            {true, "0.1.0", false, 42, 41, 9, {{0, 42, 10, 2}, {1, 41, 0, 0}}, ""},
                            {site},
                            3,
                            1,
                            {a_drain()}});
    check_round_trip(DrainRequest{"pangyo", 1800, "move", true, true, "kim"});
    check_round_trip(DrainRequest{"pangyo", std::nullopt, "", false, false, ""});
    check_round_trip(UndrainRequest{"pangyo", ""});
    check_round_trip(DrainReply{
        a_drain(), "no new flow", {{"talk", "pangyo", "anyang", 0.25}}, 210, {{"fast path", "away"}}});
    check_round_trip(UndrainReply{"pangyo", "ramp", kTime, {}});
    check_round_trip(ReloadReply{true, 43, {"pool talk added"}});
    check_round_trip(ConfigInfo{"/etc/detour", kTime, 3, 2, 6, kTime, {"a:1:2: found x, expected y"}});
    check_round_trip(
        std::vector<FlowPlacement>{{"pangyo", "10.1.0.11", "forwarded_new"}, {"", "", "no_site"}});
    check_round_trip(
        PlanFailReply{"kr",
                      {"pangyo"},
                      {{"talk", true, {{"pangyo", true, 1, 0, {}}, {"anyang", false, 0, 1, 1.5}}}},
                      {"w"}});
}

TEST_CASE("an error keeps its rail, override and details, and every code has a name and a status") {
    ApiError error(api::ErrorCode::kRefused, "draining pangyo", "pool talk needs 1 site");
    error.rail = "min_sites";
    error.override_by = "--force";
    error.details = {"one", "two"};
    const auto read = from_json<ApiError>(to_json(error));
    REQUIRE(read);
    CHECK(read->code == error.code);
    CHECK(read->to_string() == error.to_string());
    CHECK(read->rail == "min_sites");
    CHECK(read->override_by == "--force");
    CHECK(read->details == error.details);
    for (int i = 0; i <= static_cast<int>(api::ErrorCode::kSystem); ++i) {
        const auto code = static_cast<api::ErrorCode>(i);
        CHECK(code_from_name(code_name(code)) == code);
        CHECK(http_status(code) >= 400);
    }
    CHECK(!code_from_name("nonsense"));
}

TEST_CASE("a request that is not what it should be is refused, with the member's name") {
    struct Row {
        const char* text;
        const char* says;
    };
    const Row rows[] = {
        {"", "incomplete JSON"},
        {"{", "incomplete JSON"},
        {"[]", "is not an object"},
        {"null", "is not an object"},
        {"{}", "target is missing"},
        {R"({"target":1})", "target is not text"},
        {R"({"target":null})", "target is not text"},
        {R"({"target":"x","for_s":-1})", "for_s is not a whole number"},
        {R"({"target":"x","for_s":1.5})", "for_s is not a whole number"},
        {R"({"target":"x","for_s":"30m"})", "for_s is not a whole number"},
        {R"({"target":"x","for_s":18446744073709551616})", "for_s is not a whole number"},
        {R"({"target":"x","force":1})", "force is not true or false"},
        {R"({"target":"x","forse":true})", "forse is not known"},
        {R"({"target":"x"} x)", "extra data"},
        {"{\"target\":\"\xff\"}", "syntax error at byte 11"},
    };
    for (const Row& row : rows) {
        CAPTURE(row.text);
        const auto read = from_json<DrainRequest>(row.text);
        REQUIRE(!read);
        CHECK(read.error().code == api::ErrorCode::kInvalidArgument);
        INFO(read.error().what);
        CHECK(read.error().what.find(row.says) != std::string::npos);
    }
    const std::string deep(100'000, '[');
    CHECK(!from_json<DrainRequest>(deep));
}

TEST_CASE("a reply's unknown members are ignored, a missing one is an error with its path") {
    CHECK(from_json<Version>(
        R"({"version":"9","api":2,"pop":"x","started":"2026-05-01T03:04:05Z","new":[1]})"));
    const auto page = from_json<EventPage>(R"({"first":1,"last":1,"events":[{"sequence":1}]})");
    REQUIRE(!page);
    CHECK(page.error().what == "events[0].time is missing");
}

TEST_CASE("text that is not UTF-8 or not printable is written as JSON that can be read") {
    struct Row {
        std::string in, out;
    };
    const Row rows[] = {{"a\"\\\n\x01", R"("a\"\\\u000a\u0001")"},
                        {"\xed\x95\x9c", "\"\xed\x95\x9c\""},
                        {"\xff!", "\"\xef\xbf\xbd!\""},
                        {"\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
                        {"\xe2\x82", "\"\xef\xbf\xbd\xef\xbf\xbd\""}};
    for (const Row& row : rows) {
        std::string out;
        append_json_string(out, row.in);
        CHECK(out == row.out);
    }
    for (int byte = 0; byte < 256; ++byte) {
        Event event;
        event.time = kTime;
        event.text = std::string(3, static_cast<char>(byte)) + "x";
        CHECK(from_json<Event>(to_json(event)));
    }
}

TEST_CASE("figures that are no number are null, not zero") {
    Event event;
    event.data = {{"x", 0.5}, {"nan", std::numeric_limits<double>::quiet_NaN()}};
    CHECK(to_json(event).find(R"("nan":null,"x":0.5)") != std::string::npos);
}

TEST_CASE("times are RFC 3339 in UTC") {
    CHECK(to_text(kTime) == "2026-05-01T03:04:05.678901Z");
    CHECK(to_text(Time{}) == "1970-01-01T00:00:00.000000Z");
    CHECK(parse_time("2026-05-01T03:04:05.678901Z") == kTime);
    CHECK(parse_time("2026-05-01T03:04:05.5Z") ==
          Time(std::chrono::floor<std::chrono::seconds>(kTime)) + microseconds(500'000));
    CHECK(parse_time("2024-02-29T00:00:00Z").has_value());
    for (const char* wrong :
         {"", "Z", "2026-05-01", "2026-05-01T03:04:05", "2026-05-01T03:04:05+09:00", "2026-02-29T00:00:00Z",
          "2026-05-01T24:00:00Z", "2026-05-01T03:04:05.Z", "2026-05-01T03:04:05.1234567Z",
          "2026-13-01T03:04:05Z", "-026-05-01T03:04:05Z", "2026-05-01 03:04:05Z", "2026-05-01T+3:04:05Z"}) {
        CAPTURE(wrong);
        CHECK(!parse_time(wrong));
    }
}

TEST_CASE("flows of a trace: both families, and each mistake says which flow") {
    const auto flows =
        parse_trace(R"({"flows":[{"source":"198.51.100.7:40000","vip":"203.0.113.10:443/tcp"},)"
                    R"({"source":"[2001:db8::1]:0","vip":"[2001:db8:f::10]:443/udp"}]})");
    REQUIRE(flows);
    REQUIRE(flows->size() == 2);
    CHECK((*flows)[0].source_port.value() == 40000);
    const auto again = parse_trace(trace_to_json(*flows));
    REQUIRE(again);
    CHECK((*again)[1].source == (*flows)[1].source);
    CHECK((*again)[1].vip == (*flows)[1].vip);
    struct Row {
        const char* flow;
        const char* says;
    };
    const Row rows[] = {
        {"1", "is not an object"},
        {R"({"vip":"203.0.113.10:443/tcp"})", "source is missing"},
        {R"({"source":"198.51.100.7:1"})", "vip is missing"},
        {R"({"source":"198.51.100.7","vip":"203.0.113.10:443/tcp"})", "is not ADDRESS:PORT"},
        {R"({"source":"198.51.100.7:","vip":"203.0.113.10:443/tcp"})", "is not ADDRESS:PORT"},
        {R"({"source":"198.51.100.7:65536","vip":"203.0.113.10:443/tcp"})", "is not ADDRESS:PORT"},
        {R"({"source":"2001:db8::1:80","vip":"203.0.113.10:443/tcp"})", "is not ADDRESS:PORT"},
        {R"({"source":"[198.51.100.7]:80","vip":"203.0.113.10:443/tcp"})", "is not ADDRESS:PORT"},
        {R"({"source":"198.51.100.7:80","vip":"203.0.113.10:443"})", ""},
    };
    for (const Row& row : rows) {
        CAPTURE(row.flow);
        const auto read = parse_trace(fmt::format("{{\"flows\":[{}]}}", row.flow));
        REQUIRE(!read);
        CHECK(read.error().doing == "reading flows[0]");
        CHECK(read.error().what.find(row.says) != std::string::npos);
    }
    CHECK(!parse_trace("{}"));
    CHECK(!parse_trace(R"({"flows":{}})"));
}

TEST_CASE("the bound of a trace holds at the limit and one above") {
    std::vector<FlowQuery> flows(kMaxTraceFlows, *parse_flow("198.51.100.7:1", "203.0.113.10:443/tcp"));
    CHECK(parse_trace(trace_to_json(flows))->size() == kMaxTraceFlows);
    flows.push_back(flows.front());
    const auto more = parse_trace(trace_to_json(flows));
    REQUIRE(!more);
    CHECK(more.error().code == api::ErrorCode::kLimit);
}

TEST_CASE("a query's value is encoded so that it comes back") {
    CHECK(percent_encoded("kr/seongnam") == "kr/seongnam");
    CHECK(percent_encoded("a b&c=%") == "a%20b%26c%3D%25");
}

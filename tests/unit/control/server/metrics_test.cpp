// The metrics page: valid in Prometheus' text format, and the same families as docs/metrics.md.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <stdlib.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "control/server/metrics.h"

using namespace detour;
using namespace detour::control;

namespace {

/// Every family has at least one sample.
MetricsInput full_input() {
    MetricsInput input;
    input.version = "0.1.0";
    input.pop = "icn1 \"quoted\" \\ \n";
    input.started_seconds = 1777604645.25;
    input.workers = {{0, 7, 1000, 10, {}}, {1, 7, 900, 0, {}}};
    input.workers[0].packets[static_cast<std::size_t>(api::Reason::kNoSite)] = 18'446'744'073'709'551'615U;
    input.ports = {{"eth1", true, 1, 2, 3, 4, 5}};
    input.sites = {{.site = "pangyo", .verdict = "dark", .admit = 0.015},
                   {.site = "anyang", .verdict = "odd"}};
    input.pools = {{.pool = "talk", .sites_admitted = 1}};
    input.pool_sites = {{"talk", "pangyo", 12}};
    input.workers[0].swept = {1, 2, 3, 4, 5, 6};
    input.workers[0].entries_v4 = 2048;
    input.workers[0].evicted_confirmed = 21;
    input.workers[0].evicted_unconfirmed = 22;
    input.workers[0].evicted_idle_seconds = 23;
    input.workers[0].no_place = 24;
    input.workers[0].idle = {31, 32, 33, 34, 35};
    input.bfd = {{"pangyo", "10.1.0.1", "down"}, {"anyang", "10.2.0.1", "unknown"}};
    input.bfd_packets = BfdPackets{7, 8, 0, {{"ttl", 3}}};
    input.probe_tunnel = {{11, 12, 13, 14}};
    input.probes = {{"pangyo", "timeout", 3}, {"pangyo", "ok", 5}};
    return input;
}

std::string full_page() {
    return render_metrics(full_input(), {{{"/v1/status", 200, 3}}, 1, 0});
}

/// What is wrong with the page; empty when nothing is. Text format 0.0.4, and our own naming rules.
std::string problem_of(const std::string& page) {
    static const std::regex help(R"(# HELP ([a-z_]+) (\S.*\.))");
    static const std::regex type(R"(# TYPE ([a-z_]+) (counter|gauge))");
    static const std::regex sample(
        R"re(([a-z_]+)(\{[a-z_]+="(?:[^"\\]|\\["\\n])*"(?:,[a-z_]+="(?:[^"\\]|\\["\\n])*")*\})? ([-+0-9.eE]+|NaN|[+-]Inf))re");
    std::istringstream lines(page);
    std::map<std::string, std::string> types;
    std::set<std::string> helped, series;
    std::string current;
    for (std::string line; std::getline(lines, line);) {
        std::smatch match;
        if (std::regex_match(line, match, help)) {
            if (!helped.insert(match[1]).second) return "second HELP: " + line;
            current = match[1];
        } else if (std::regex_match(line, match, type)) {
            if (match[1] != current) return "TYPE without its HELP before: " + line;
            types[match[1]] = match[2];
        } else if (std::regex_match(line, match, sample)) {
            if (match[1] != current || !types.contains(current)) return "sample outside its family: " + line;
            if (!series.insert(match[1].str() + match[2].str()).second) return "twice: " + line;
        } else {
            return "not understood: " + line;
        }
    }
    for (const auto& [name, kind] : types) {
        if (!name.starts_with("detour_")) return "not ours: " + name;
        if (name.ends_with("_total") != (kind == "counter")) return "_total and counter don't agree: " + name;
    }
    return page.ends_with('\n') ? "" : "no newline at the end";
}

std::set<std::string> families_of(const std::string& text) {
    static const std::regex name(R"(`(detour_[a-z_]+)`)");
    std::set<std::string> found;
    for (std::sregex_iterator i(text.begin(), text.end(), name); i != std::sregex_iterator(); ++i)
        found.insert((*i)[1]);
    return found;
}

std::string read(const std::string& path) {
    std::ifstream file(path);
    REQUIRE_MESSAGE(file.good(), path);
    return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("the page is valid, full or empty") {
    CHECK(problem_of(full_page()) == "");
    CHECK(problem_of(render_metrics({}, {})) == "");
    // The checker itself can say no.
    CHECK(problem_of("detour_x 1\n") != "");
    CHECK(problem_of("# HELP detour_x A.\n# TYPE detour_x counter\ndetour_x 1\n") != "");
    CHECK(problem_of("# HELP detour_x A.\n# TYPE detour_x gauge\ndetour_x 1\ndetour_x 1\n") != "");
    CHECK(problem_of("# HELP detour_x A.\n# TYPE detour_x gauge\ndetour_x{a=\"\n\"} 1\n") != "");
}

TEST_CASE("every family is on a full page") {
    const std::string page = full_page();
    for (const MetricFamily& family : metric_families()) {
        CHECK_MESSAGE(page.find(fmt::format("# TYPE {} {}\n", family.name, family.type)) != std::string::npos,
                      family.name);
    }
}

TEST_CASE("figures are whole, labels escaped, a verdict is one of a set") {
    const std::string page = full_page();
    const auto has = [&page](const std::string& line) { return page.find(line + "\n") != std::string::npos; };
    CHECK(has(
        R"(detour_worker_packets_total{worker="0",outcome="dropped",reason="no_site"} 18446744073709551615)"));
    CHECK(has(R"(detour_build_info{version="0.1.0",pop="icn1 \"quoted\" \\ \n"} 1)"));
    CHECK(has(R"(detour_pool_flows{pool="talk",site="pangyo"} 12)"));
    CHECK(has(R"(detour_worker_swept_total{worker="0",result="backend"} 5)"));
    CHECK(has(R"(detour_worker_flow_entries{worker="0",family="v4"} 2048)"));
    CHECK(has(R"(detour_worker_flows_evicted_total{worker="0",kind="confirmed"} 21)"));
    CHECK(has(R"(detour_worker_flows_evicted_total{worker="0",kind="unconfirmed"} 22)"));
    CHECK(has(R"(detour_worker_flows_evicted_idle_seconds_total{worker="0"} 23)"));
    CHECK(has(R"(detour_worker_flows_not_inserted_total{worker="0",reason="full"} 24)"));
    CHECK(has(R"(detour_worker_flows_idle{worker="0",idle="under_10m"} 33)"));
    CHECK(has(R"(detour_worker_flows_idle{worker="0",idle="longer"} 35)"));
    CHECK(has(R"(detour_start_time_seconds 1777604645.25)"));
    CHECK(has(R"(detour_site_verdict{site="pangyo",verdict="dark"} 1)"));
    CHECK(has(R"(detour_site_verdict{site="pangyo",verdict="healthy"} 0)"));
    CHECK(has(R"(detour_site_verdict{site="anyang",verdict="unknown"} 1)"));
    CHECK(has(R"(detour_site_admit_ratio{site="pangyo"} 0.015)"));
    CHECK(has(R"(detour_bfd_session_up{site="pangyo",address="10.1.0.1"} 0)"));
    CHECK(has(R"(detour_probe_tunnel_packets_total{result="sent"} 11)"));
    CHECK(has(R"(detour_probe_tunnel_packets_total{result="unknown"} 14)"));
    CHECK(page.find("10.2.0.1") == std::string::npos);
}

TEST_CASE("docs/metrics.md lists the families that are written, their type, and every reason") {
    const std::string manual = read(DETOUR_SOURCE "/docs/metrics.md");
    std::set<std::string> written;
    for (const MetricFamily& family : metric_families()) {
        written.insert(std::string(family.name));
        CHECK_MESSAGE(
            manual.find(fmt::format("| `{}` | {} |", family.name, family.type)) != std::string::npos,
            family.name);
    }
    CHECK(families_of(manual) == written);
    for (const api::ReasonInfo& reason : api::kReasons) {
        CHECK_MESSAGE(manual.find(fmt::format("| `{}` |", reason.name)) != std::string::npos, reason.name);
    }
}

TEST_CASE("promtool, where it is installed, agrees") {
    if (::system("command -v promtool >/dev/null") != 0) {  // NOLINT
        MESSAGE("promtool (package prometheus) is not installed: our own check alone was made");
        return;
    }
    std::FILE* pipe = ::popen("promtool check metrics 2>&1", "w");
    REQUIRE(pipe != nullptr);
    const std::string page = full_page();
    std::fwrite(page.data(), 1, page.size(), pipe);
    CHECK(::pclose(pipe) == 0);
}

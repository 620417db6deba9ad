#include "tools/lbctl/audit.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "control/api/json.h"
#include "tools/lbctl/text.h"
#include "tools/lbctl/verbs.h"

namespace detour::lbctl {

using namespace detour::control;

namespace {

constexpr std::chrono::seconds kDeadline{10};

Outcome<std::vector<DomainAudit>> ask_all(const Settings& settings) {
    auto body = settings.client().get("/v1/sites", kDeadline);
    if (!body) return tl::unexpected(body.error());
    const auto sites = from_json<std::vector<SiteStatus>>(*body);
    if (!sites) return tl::unexpected(ApiError(sites.error()));
    std::vector<DomainAudit> audits;
    for (const std::string& domain : domains_of(*sites)) {
        auto answer = settings.client().get("/v1/plan?fail=" + percent_encoded(domain), kDeadline);
        if (!answer) return tl::unexpected(answer.error());
        const auto forecast = from_json<PlanFailReply>(*answer);
        if (!forecast) return tl::unexpected(ApiError(forecast.error()));
        audits.push_back(audit_of(*forecast, sites->size()));
    }
    return audits;
}

std::string json_of(std::span<const DomainAudit> domains) {
    std::string out = R"({"pools":[)";
    const char* separator = "";
    for (const PoolWorst& worst : worst_of(domains)) {
        out += separator;
        out += R"({"pool":)";
        append_json_string(out, worst.pool);
        out += fmt::format(R"(,"survives":{},"room_known":{},"worst_domain":)", worst.survives,
                           worst.room_known);
        append_json_string(out, worst.domain);
        out += '}';
        separator = ",";
    }
    out += R"(],"domains":[)";
    separator = "";
    for (const DomainAudit& domain : domains) {
        out += separator;
        out += R"({"domain":)";
        append_json_string(out, domain.domain);
        out += fmt::format(R"(,"whole_fleet":{},"pools":[)", domain.whole_fleet);
        const char* inner = "";
        for (const PoolRedundancy& pool : domain.pools) {
            out += inner;
            out += R"({"pool":)";
            append_json_string(out, pool.pool);
            out += fmt::format(R"(,"survives":{},"room_known":{}}})", pool.survives, pool.room_known);
            inner = ",";
        }
        out += "]}";
        separator = ",";
    }
    return out + "]}\n";
}

Tone tone_of(double survives) {
    if (survives >= 0.999) return Tone::kGood;
    return survives < 0.5 ? Tone::kBad : Tone::kWarning;
}

std::string table_of(std::span<const DomainAudit> domains, Colour colour) {
    Table worst({{"POOL"}, {"REDUNDANCY", Align::kRight}, {"WHEN THIS FAILS"}, {"ROOM"}});
    for (const PoolWorst& pool : worst_of(domains)) {
        worst.row({{pool.pool},
                   {percent_text(pool.survives), tone_of(pool.survives)},
                   {pool.domain.empty() ? "(no smaller domain than the fleet)" : pool.domain},
                   {pool.room_known ? "counted" : "not known: places alone are counted"}});
    }
    std::vector<Column> columns{{"IF THIS FAILS"}};
    for (const PoolRedundancy& pool : domains.empty() ? std::vector<PoolRedundancy>{} : domains.front().pools)
        columns.push_back({pool.pool, Align::kRight});
    Table all(columns);
    for (const DomainAudit& domain : domains) {
        std::vector<Cell> cells{{domain.domain + (domain.whole_fleet ? " (the whole fleet)" : "")}};
        for (const PoolRedundancy& pool : domain.pools)
            cells.push_back({percent_text(pool.survives), tone_of(pool.survives)});
        cells.resize(columns.size());
        all.row(std::move(cells));
    }
    return "redundancy: the part of a pool's new flows that still finds a site with room\n\n" +
           worst.render(colour) + "\n" + all.render(colour);
}

}  // namespace

std::vector<std::string> domains_of(std::span<const SiteStatus> sites) {
    std::map<std::string, std::set<std::string>> members;
    for (const SiteStatus& site : sites) {
        members[site.name].insert(site.name);
        std::string path;
        for (const std::string& part : site.domain) {
            path += (path.empty() ? "" : "/") + part;
            members[path].insert(site.name);
        }
    }
    // Of equal sets: a site by its own name, else the narrowest path.
    std::map<std::set<std::string>, std::string> named;
    for (const auto& [name, inside] : members) {
        std::string& chosen = named[inside];
        const bool is_site = inside.size() == 1 && *inside.begin() == name;
        if (chosen.empty() || is_site || (inside.size() > 1 && name.size() > chosen.size())) chosen = name;
    }
    std::vector<std::string> result;
    for (const auto& [inside, name] : named) result.push_back(name);
    std::stable_sort(result.begin(), result.end(), [&](const std::string& a, const std::string& b) {
        return members.at(a).size() > members.at(b).size();
    });
    return result;
}

DomainAudit audit_of(const PlanFailReply& forecast, std::size_t all_sites) {
    DomainAudit result{forecast.domain, forecast.failing, forecast.failing.size() >= all_sites, {}};
    for (const PoolForecast& pool : forecast.pools) {
        PoolRedundancy one{pool.pool, 0, true};
        for (const SiteShare& site : pool.sites) {
            if (site.after <= 0) continue;
            one.room_known = one.room_known && site.load_after.has_value();
            const double load = site.load_after.value_or(0);
            one.survives += site.after * (load > 1 ? 1 / load : 1);
        }
        one.survives = std::min(one.survives, 1.0);
        result.pools.push_back(std::move(one));
    }
    return result;
}

std::vector<PoolWorst> worst_of(std::span<const DomainAudit> domains) {
    std::vector<PoolWorst> result;
    for (const DomainAudit& domain : domains) {
        for (const PoolRedundancy& pool : domain.pools) {
            auto found = std::find_if(result.begin(), result.end(),
                                      [&](const PoolWorst& worst) { return worst.pool == pool.pool; });
            if (found == result.end()) found = result.insert(result.end(), PoolWorst{pool.pool, 1, "", true});
            if (domain.whole_fleet || (pool.survives >= found->survives && !found->domain.empty())) continue;
            *found = {pool.pool, pool.survives, domain.domain, pool.room_known};
        }
    }
    return result;
}

ExitCode audit(const Settings& settings) {
    const auto domains = ask_all(settings);
    if (!domains) return report(settings, domains.error());
    print(settings.json() ? json_of(*domains) : table_of(*domains, settings.colour));
    return ExitCode::kDone;
}

}  // namespace detour::lbctl

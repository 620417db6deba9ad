// Verbs that show what is true now.
#include <algorithm>
#include <span>
#include <string_view>
#include <vector>

#include "control/api/json.h"
#include "tools/lbctl/verbs.h"

namespace detour::lbctl {

using namespace detour::control;

namespace {

constexpr std::chrono::seconds kDeadline{10};
constexpr std::chrono::milliseconds kCompletionDeadline{700};

/// Gets `target`; prints the document as it is, or what `show` makes of it.
template <class T, class Show>
ExitCode get_and_show(const Settings& settings, const std::string& target, Show show) {
    auto body = settings.client().get(target, kDeadline);
    if (!body) return report(settings, body.error());
    if (settings.json()) {
        print(*body);
        return ExitCode::kDone;
    }
    auto value = from_json<T>(*body);
    if (!value) return report(settings, value.error());
    print(show(*value));
    return ExitCode::kDone;
}

template <class T>
ExitCode show_as_table(const Settings& settings, const std::string& target) {
    return get_and_show<T>(settings, target,
                           [&settings](const T& value) { return render(value, settings.view()); });
}

/// A list that the client filters.
template <class T, class Keep>
ExitCode show_list(const Settings& settings, const std::string& target, Keep keep) {
    auto body = settings.client().get(target, kDeadline);
    if (!body) return report(settings, body.error());
    auto list = from_json<std::vector<T>>(*body);
    if (!list) return report(settings, list.error());
    std::erase_if(*list, [&keep](const T& one) { return !keep(one); });
    print(settings.json() ? to_json(*list) + "\n" : render(std::span<const T>(*list), settings.view()));
    return ExitCode::kDone;
}

bool matches(const std::string& wanted, const std::string& name) {
    return wanted.empty() || wanted == name;
}

}  // namespace

ExitCode show_status(const Settings& settings) {
    return show_as_table<Status>(settings, "/v1/status");
}

ExitCode show_flows(const Settings& settings) {
    return get_and_show<Status>(settings, "/v1/status", [&settings](const Status& status) {
        return render_flows(status, settings.view());
    });
}

ExitCode show_incidents(const Settings& settings, const std::uint64_t& number) {
    if (number > 0)
        return show_as_table<Incident>(settings, "/v1/incidents?number=" + std::to_string(number));
    return get_and_show<std::vector<IncidentSummary>>(
        settings, "/v1/incidents", [&settings](const std::vector<IncidentSummary>& incidents) {
            return render(std::span<const IncidentSummary>(incidents), settings.view());
        });
}

ExitCode show_sites(const Settings& settings) {
    return show_list<SiteStatus>(settings, "/v1/sites", [](const SiteStatus&) { return true; });
}

ExitCode show_pools(const Settings& settings, const Filter& filter) {
    return show_list<PoolStatus>(settings, "/v1/pools", [&filter](const PoolStatus& pool) {
        const bool in_site = filter.site.empty() ||
                             std::ranges::find(pool.sites, filter.site, &PoolSite::site) != pool.sites.end();
        return in_site && matches(filter.pool, pool.name);
    });
}

ExitCode show_backends(const Settings& settings, const Filter& filter) {
    return show_list<BackendStatus>(settings, "/v1/backends", [&filter](const BackendStatus& backend) {
        return matches(filter.site, backend.site) && matches(filter.pool, backend.pool);
    });
}

ExitCode show_version(const Settings& settings) {
    auto body = settings.client().get("/v1/version", kDeadline);
    std::string own = DETOUR_VERSION;
    if (settings.json()) {
        std::string out = R"({"lbctl":)";
        append_json_string(out, own);
        if (body) out += ",\"server\":" + body->substr(0, body->find('\n'));
        print(out + "}\n");
        return ExitCode::kDone;
    }
    print("lbctl " + own + ", API " + std::to_string(kApiVersion) + "\n");
    if (!body) {
        note("control process: " + printable(body.error().to_string()) + "\n");
        return ExitCode::kDone;
    }
    auto version = from_json<Version>(*body);
    if (!version) return report(settings, version.error());
    print(render(*version, settings.view()));
    return ExitCode::kDone;
}

ExitCode plan_fail(const Settings& settings, const std::string& domain) {
    return show_as_table<PlanFailReply>(settings, "/v1/plan?fail=" + percent_encoded(domain));
}

ExitCode names(const Settings& settings, const std::string& kind) {
    const bool of_pools = kind == "pools" || kind == "targets";
    if (kind != "pools") {
        auto body = settings.client().get("/v1/sites", kCompletionDeadline);
        auto sites =
            body ? from_json<std::vector<SiteStatus>>(*body) : api::Result<std::vector<SiteStatus>>{};
        if (!body || !sites) return ExitCode::kFailed;
        for (const SiteStatus& site : *sites) print(site.name + "\n");
    }
    if (of_pools) {
        auto body = settings.client().get("/v1/pools", kCompletionDeadline);
        auto pools =
            body ? from_json<std::vector<PoolStatus>>(*body) : api::Result<std::vector<PoolStatus>>{};
        if (!body || !pools) return ExitCode::kFailed;
        for (const PoolStatus& pool : *pools) {
            if (kind == "pools") print(pool.name + "\n");
            if (kind == "pools") continue;
            for (const PoolSite& site : pool.sites) print(pool.name + "@" + site.site + "\n");
        }
    }
    return ExitCode::kDone;
}

}  // namespace detour::lbctl

// config check, show, diff, apply, confirm.
#include <fmt/format.h>

#include <array>
#include <filesystem>

#include "config/load.h"
#include "control/api/json.h"
#include "tools/lbctl/text.h"
#include "tools/lbctl/verbs.h"

namespace detour::lbctl {

using namespace detour::control;

namespace {

constexpr std::chrono::seconds kDeadline{10};
constexpr std::chrono::seconds kReloadDeadline{40};

std::string mistakes_json(const std::vector<config::Mistake>& mistakes) {
    std::string out = R"({"ok":false,"mistakes":[)";
    const char* separator = "";
    for (const config::Mistake& mistake : mistakes) {
        out += separator;
        out += R"({"file":)";
        append_json_string(out, mistake.origin.file);
        out += fmt::format(R"(,"line":{},"column":{},"found":)", mistake.origin.line, mistake.origin.column);
        append_json_string(out, mistake.found);
        out += R"(,"expected":)";
        append_json_string(out, mistake.expected);
        out += '}';
        separator = ",";
    }
    return out + "]}\n";
}

/// Prints every mistake where a script or an editor looks for it.
ExitCode refuse(const Settings& settings, const std::vector<config::Mistake>& mistakes) {
    if (settings.json()) {
        print(mistakes_json(mistakes));
        return ExitCode::kUsage;
    }
    for (const config::Mistake& mistake : mistakes) note(printable(mistake.to_string()) + "\n");
    note(fmt::format("lbctl: {}; nothing was changed\n", plural(mistakes.size(), "mistake")));
    return ExitCode::kUsage;
}

std::size_t backend_count(const config::Config& loaded) {
    std::size_t count = 0;
    for (const config::Pool& pool : loaded.pools) count += pool.backends.size();
    return count;
}

std::string summary(const config::Config& loaded) {
    return fmt::format("{}, {}, {}", plural(loaded.sites.size(), "site"), plural(loaded.pools.size(), "pool"),
                       plural(backend_count(loaded), "backend"));
}

/// Names and addresses need no quoting in a unit file or a shell, device strings may.
std::string argument(const std::string& value) {
    return shell_word(value);
}

std::string dataplane_args(const config::Dataplane& dataplane) {
    std::string out;
    for (const std::string& port : dataplane.ports) out += "--port " + argument(port) + " ";
    return out + fmt::format("--workers {} --socket {} --state-dir {} --flows-per-worker {}\n",
                             dataplane.workers, argument(dataplane.socket), argument(dataplane.state_dir),
                             dataplane.flows_per_worker);
}

std::string overview(const config::Config& loaded, Colour colour) {
    std::string out = fmt::format("PoP {}, share {}: {}\n\n", loaded.pop.name, percent_text(loaded.pop.share),
                                  summary(loaded));
    Table sites({{"SITE"},
                 {"TIER"},
                 {"DOMAIN"},
                 {"CAPACITY FLOWS/S", Align::kRight},
                 {"CAPACITY GBIT/S", Align::kRight}});
    constexpr std::array kTiers{"active", "hot", "warm", "cold"};
    for (const config::Site& site : loaded.sites) {
        std::string domain;
        for (const std::string& part : site.domain) domain += (domain.empty() ? "" : "/") + part;
        sites.row({{site.name},
                   {kTiers.at(static_cast<std::size_t>(site.tier))},
                   {domain},
                   {site.capacity.new_flows == 0 ? "" : count_text(site.capacity.new_flows)},
                   {site.capacity.gbps <= 0 ? "" : fmt::format("{}", site.capacity.gbps)}});
    }
    Table pools({{"POOL"},
                 {"VIP"},
                 {"ENCAP"},
                 {"HASH"},
                 {"STRANDED"},
                 {"BACKENDS", Align::kRight},
                 {"PROBE MS", Align::kRight},
                 {"FALL", Align::kRight}});
    for (const config::Pool& pool : loaded.pools) {
        std::string vips;
        for (const api::Vip& vip : pool.vips) vips += (vips.empty() ? "" : " ") + vip.to_string();
        pools.row({{pool.name},
                   {vips},
                   {std::string(api::to_string(pool.encap))},
                   {std::string(api::to_string(pool.hash))},
                   {std::string(api::to_string(pool.stranded))},
                   {fmt::format("{}", pool.backends.size())},
                   {fmt::format("{}", pool.health.interval.count())},
                   {fmt::format("{}", pool.health.fall)}});
    }
    return out + sites.render(colour) + "\n" + pools.render(colour);
}

std::string overview_json(const config::Config& loaded, const std::string& arguments) {
    std::string out = R"({"ok":true,"pop":)";
    append_json_string(out, loaded.pop.name);
    out += fmt::format(R"(,"sites":{},"pools":{},"backends":{},"dataplane_args":)", loaded.sites.size(),
                       loaded.pools.size(), backend_count(loaded));
    append_json_string(out, arguments.substr(0, arguments.size() - 1));
    return out + "}\n";
}

}  // namespace

ExitCode config_check(const Settings& settings, const std::string& path) {
    const auto loaded = config::load(path);
    if (!loaded) return refuse(settings, loaded.error());
    print(settings.json() ? overview_json(*loaded, dataplane_args(loaded->dataplane))
                          : fmt::format("{}: good, {}\n", printable(path), summary(*loaded)));
    return ExitCode::kDone;
}

ExitCode config_show(const Settings& settings, const ShowConfig& command) {
    if (command.path.empty()) {
        auto body = settings.client().get("/v1/config", kDeadline);
        if (!body) return report(settings, body.error());
        const auto running = from_json<ConfigInfo>(*body);
        if (!running) return report(settings, running.error());
        print(settings.json() ? *body : render(*running, settings.view()));
        return ExitCode::kDone;
    }
    const auto loaded = config::load(command.path);
    if (!loaded) return refuse(settings, loaded.error());
    const std::string arguments = dataplane_args(loaded->dataplane);
    if (settings.json()) {
        print(overview_json(*loaded, arguments));
    } else {
        print(command.dataplane_args ? arguments : overview(*loaded, settings.colour));
    }
    return ExitCode::kDone;
}

ExitCode reload(const Settings& settings, const ApplyConfig& command) {
    const auto within = whole_seconds(command.confirm_within, "--confirm-within", 1);
    if (!within) return report(settings, within.error());
    auto body = settings.client().post("/v1/reload", to_json(ReloadRequest{.confirm_within_s = *within}),
                                       kReloadDeadline);
    if (!body) return report(settings, body.error());
    const auto reply = from_json<ReloadReply>(*body);
    if (!reply) return report(settings, reply.error());
    print(settings.json() ? *body : render(*reply, settings.view()));
    return ExitCode::kDone;
}

ExitCode config_confirm(const Settings& settings) {
    auto body = settings.client().post("/v1/config/confirm", "{}", kReloadDeadline);
    if (!body) return report(settings, body.error());
    const auto reply = from_json<IntentReply>(*body);
    if (!reply) return report(settings, reply.error());
    print(settings.json() ? *body : render(*reply, settings.view()));
    return ExitCode::kDone;
}

ExitCode config_diff(const Settings& settings, const std::string& path) {
    ConfigDiffRequest request;
    // The server has another working directory.
    std::error_code ignored;
    if (!path.empty()) request.path = std::filesystem::absolute(path, ignored).string();
    auto body = settings.client().post("/v1/config/diff", to_json(request), kReloadDeadline);
    if (!body) return report(settings, body.error());
    const auto reply = from_json<ConfigDiff>(*body);
    if (!reply) return report(settings, reply.error());
    print(settings.json() ? *body : render(*reply, settings.view()));
    return ExitCode::kDone;
}

}  // namespace detour::lbctl

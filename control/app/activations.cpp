#include "control/app/activations.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <sstream>
#include <utility>

namespace detour::app {

Activations::Activations(Shell shell, std::string_view stored, health::Now now)
    : shell_(std::move(shell)), now_(now) {
    std::istringstream lines{std::string(stored)};
    std::string site;
    std::string state;
    while (lines >> site >> state) {
        active_[site].needed = now.monotonic;
        if (state == "running")
            shell_.tell(EventKind::kAlarm, site,
                        "its activation was under way when this process ended: its outcome is not known");
    }
}

Activations::~Activations() {
    for (auto& [site, active] : active_) {
        if (active.hook) active.hook->stop();
    }
}

void Activations::update(const config::Config& config, const Needs& needs, health::Now now) {
    now_ = now;
    if (!needs.fail_static) static_since_.reset();
    if (needs.fail_static && !static_since_) static_since_ = now.monotonic;
    const bool sure = !static_since_ || now.monotonic - *static_since_ >= kSureAfter;
    for (const std::string& name : needs.sites) {
        if (!sure && !active_.contains(name)) continue;
        const config::Site* site = config.find_site(name);
        if (site == nullptr || !site->activation.configured()) continue;
        const auto [found, is_new] = active_.try_emplace(name);
        found->second.needed = now.monotonic;
        if (is_new) begin(config, *site);
    }
    const auto over = [&](const auto& entry) {
        return !entry.second.running && now.monotonic - entry.second.needed >= kNeedEnds;
    };
    if (std::erase_if(active_, over) > 0) save({});
}

void Activations::begin(const config::Config& config, const config::Site& site) {
    active_[site.name].running = true;
    const config::Activation& activation = site.activation;
    const std::string what = activation.command.empty()
                                 ? "POST " + activation.url
                                 : fmt::format("{}", fmt::join(activation.command, " "));
    shell_.tell(EventKind::kActivation, site.name, "needed: no better site takes a pool of it; runs " + what);
    HookOrder order{activation, site.name, config.pop.name};
    save([this, alive = std::weak_ptr(alive_), order = std::move(order)] {
        if (alive.expired()) return;
        const std::string name = order.site;
        active_[name].hook =
            shell_.run(order, [this, name](const HookResult& result) { on_done(name, result); });
    });
}

void Activations::on_done(const std::string& site, const HookResult& result) {
    Active& active = active_[site];
    active.running = false;
    active.hook.reset();
    const std::string said = result.output.empty() ? "" : ": " + result.output;
    if (result.good)
        shell_.tell(EventKind::kActivation, site, "done, " + result.how + said);
    else
        shell_.tell(EventKind::kAlarm, site, "its activation failed, " + result.how + said);
    save({});
}

void Activations::save(std::function<void()> written) {
    shell_.write(stored(), std::move(written));
}

std::string Activations::stored() const {
    std::string out;
    for (const auto& [site, active] : active_) out += site + (active.running ? " running\n" : " done\n");
    return out;
}

}  // namespace detour::app

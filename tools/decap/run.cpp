#include "tools/decap/run.h"

#include <poll.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "tools/decap/attachment.h"
#include "tools/decap/local_addresses.h"

namespace detour::decap {

namespace {

/// Blocks the signals, so that none is lost between here and the poll.
[[nodiscard]] Result<Descriptor> stop_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    Descriptor fd(signalfd(-1, &signals, SFD_CLOEXEC));
    if (fd.get() < 0) return api::fail(api::ErrorCode::kSystem, "waiting for signals", std::strerror(errno));
    return fd;
}

/// A VIP is an address of this host too, but no tunnel ends there: its port 6080 may be a service of its own.
[[nodiscard]] Result<std::vector<api::IpAddress>> tunnel_ends(const Settings& settings) {
    auto addresses = local_addresses();
    if (!addresses) return addresses;
    std::erase_if(*addresses, [&settings](const auto& address) {
        return std::ranges::find(settings.vips, address) != settings.vips.end();
    });
    return addresses;
}

[[nodiscard]] Result<void> follow(const Settings& settings, const Descriptor& stop, const AddressWatch& watch,
                                  std::vector<Attachment>& attachments) {
    std::array<pollfd, 2> waiting{{{stop.get(), POLLIN, 0}, {watch.descriptor(), POLLIN, 0}}};
    while (true) {
        if (::poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR) {
            return api::fail(api::ErrorCode::kSystem, "waiting", std::strerror(errno));
        }
        if (waiting[0].revents != 0) return {};
        if (waiting[1].revents == 0) continue;
        watch.drain();
        auto locals = tunnel_ends(settings);
        if (!locals) return tl::unexpected(locals.error());
        for (auto& attachment : attachments) {
            if (auto done = attachment.set_locals(*locals); !done) return done;
        }
    }
}

}  // namespace

Result<void> run(const Settings& settings) {
    auto stop = stop_signals();
    if (!stop) return tl::unexpected(stop.error());
    auto watch = AddressWatch::open();
    if (!watch) return tl::unexpected(watch.error());
    auto locals = tunnel_ends(settings);
    if (!locals) return tl::unexpected(locals.error());
    std::vector<Attachment> attachments;
    for (const auto& plan : settings.plan()) {
        auto attachment = Attachment::open(plan, settings, *locals);
        if (!attachment) return tl::unexpected(attachment.error());
        attachments.push_back(std::move(*attachment));
    }
    std::puts("ready");
    std::fflush(stdout);
    return follow(settings, *stop, *watch, attachments);
}

}  // namespace detour::decap

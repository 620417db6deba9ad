// lbctl capture: packets on the fast path, with what became of them.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <fstream>
#include <iostream>

#include "control/api/json.h"
#include "dataplane/api/quic_server_id.h"
#include "tools/lbctl/packet_line.h"
#include "tools/lbctl/pcapng.h"
#include "tools/lbctl/text.h"
#include "tools/lbctl/verbs.h"

namespace detour::lbctl {

using namespace detour::control;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::chrono::seconds kDeadline{5};
constexpr std::chrono::milliseconds kBetweenReads{100};

/// Ctrl-C ends a capture well: the signals wait until we look for them.
class Patience {
  public:
    Patience() {
        sigemptyset(&signals_);
        sigaddset(&signals_, SIGINT);
        sigaddset(&signals_, SIGTERM);
        ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    }
    /// False: somebody wants it to end.
    [[nodiscard]] bool wait(std::chrono::milliseconds time) const {
        const timespec t{0, static_cast<long>(std::chrono::nanoseconds(time).count())};
        return ::sigtimedwait(&signals_, nullptr, &t) < 0;
    }

  private:
    sigset_t signals_{};
};

std::string bytes_of(const std::string& hex) {
    return hex.empty() ? std::string() : api::bytes_from_hex(hex).value_or(std::string());
}

std::span<const std::uint8_t> as_span(const std::string& bytes) {
    return {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
}

std::string fate(const CapturedPacket& packet) {
    std::string out = packet.reason;
    for (const std::string* part : {&packet.pool, &packet.site, &packet.backend})
        if (!part->empty()) out += " " + *part;
    return out;
}

std::string line_of(const CapturedPacket& packet) {
    const std::string before = bytes_of(packet.before);
    std::string out = fmt::format("{} {} {} {}  {}", to_text(packet.time).substr(11), packet.port,
                                  packet_line(as_span(before)), packet.before_length, fate(packet));
    if (packet.sent_port.empty()) return out + "\n";
    const std::string after = bytes_of(packet.after);
    return out + fmt::format("  ->  {} {} {}\n", packet.sent_port, packet_line(as_span(after)),
                             packet.after_length);
}

/// Where packets go: a file, or the screen.
class Sink {
  public:
    Sink(const Settings& settings, const CaptureCommand& command) : settings_(settings), command_(command) {}

    Outcome<void> open() {
        if (command_.file.empty()) return {};
        if (command_.file != "-") file_.open(command_.file, std::ios::binary | std::ios::trunc);
        return write(Pcapng::header("detour lbctl"));
    }
    Outcome<void> take(const CapturedPacket& packet) {
        if (command_.file.empty()) {
            print(settings_.json() ? to_json(packet) + "\n" : line_of(packet));
            return {};
        }
        std::string blocks;
        if (command_.side != "after") blocks += block(packet, Pcapng::Way::kReceived);
        if (command_.side != "before" && !packet.sent_port.empty())
            blocks += block(packet, Pcapng::Way::kSent);
        return write(blocks);
    }

  private:
    std::string block(const CapturedPacket& packet, Pcapng::Way way) {
        const bool sent = way == Pcapng::Way::kSent;
        const std::string bytes = bytes_of(sent ? packet.after : packet.before);
        return pcapng_.packet({way, sent ? packet.sent_port : packet.port,
                               static_cast<std::uint64_t>(packet.time.time_since_epoch().count()),
                               as_span(bytes), sent ? packet.after_length : packet.before_length,
                               fate(packet)});
    }
    Outcome<void> write(const std::string& bytes) {
        std::ostream& out = command_.file == "-" ? std::cout : file_;
        out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        out.flush();
        if (out) return {};
        return tl::unexpected(
            ApiError(api::ErrorCode::kSystem, "writing the capture", "can't write " + command_.file));
    }

    const Settings& settings_;
    const CaptureCommand& command_;
    std::ofstream file_;
    Pcapng pcapng_;
};

Outcome<CapturePage> ask(const Settings& settings, const std::string& path, const std::string& body) {
    auto reply = settings.client().post(path, body, kDeadline);
    if (!reply) return tl::unexpected(reply.error());
    auto page = from_json<CapturePage>(*reply);
    if (!page) return tl::unexpected(ApiError(page.error()));
    return *std::move(page);
}

/// One read; how many packets were taken of it is added to `taken`.
Outcome<CapturePage> read_once(const Settings& settings, const CaptureReadRequest& request,
                               const CaptureCommand& command, Sink& sink, std::uint64_t& taken) {
    auto page = ask(settings, "/v1/capture/read", to_json(request));
    if (!page) return page;
    std::ranges::stable_sort(page->packets, {}, &CapturedPacket::time);
    for (const CapturedPacket& packet : page->packets) {
        if (command.count != 0 && taken == command.count) break;
        if (auto written = sink.take(packet); !written) return tl::unexpected(written.error());
        ++taken;
    }
    return page;
}

void summarise(std::uint64_t taken, const CapturePage& page) {
    note(fmt::format("{} captured, of {} looked at", plural(taken, "packet"), count_text(page.sampled)) +
         (page.missed == 0 ? "\n"
                           : fmt::format("; {} more were wanted and missed\n", count_text(page.missed))));
}

}  // namespace

ExitCode capture(const Settings& settings, const CaptureCommand& command) {
    const Patience patience;
    Sink sink(settings, command);
    if (auto opened = sink.open(); !opened) return report(settings, opened.error());
    const CaptureRequest request{command.pool, command.site, command.reason, command.sample, command.snap};
    auto page = ask(settings, "/v1/capture", to_json(request));
    if (!page) return report(settings, page.error());
    note("capturing\n");
    const auto end = command.duration ? Clock::now() + *command.duration : Clock::time_point::max();
    CaptureReadRequest read{page->capture, false};
    std::uint64_t taken = 0;
    while (!read.end) {
        const auto left = std::max(Clock::duration::zero(), end - Clock::now());
        const auto pause = std::min<Clock::duration>(kBetweenReads, left);
        const bool goes_on = patience.wait(std::chrono::duration_cast<std::chrono::milliseconds>(pause));
        read.end = !goes_on || Clock::now() >= end || (command.count != 0 && taken >= command.count);
        page = read_once(settings, read, command, sink, taken);
        if (!page) return report(settings, page.error());
    }
    summarise(taken, *page);
    return ExitCode::kDone;
}

}  // namespace detour::lbctl

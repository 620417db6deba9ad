// lbctl events: a page, or a stream that survives a restart of the control process.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <thread>

#include "control/api/json.h"
#include "tools/lbctl/text.h"
#include "tools/lbctl/verbs.h"

namespace detour::lbctl {

using namespace detour::control;

namespace {

constexpr std::chrono::seconds kDeadline{10};
constexpr std::chrono::seconds kSilence{20};  // four of the server's heartbeats
constexpr std::chrono::seconds kRetryAfter{1};
constexpr int kRetries = 300;

/// Where to begin: after a sequence, at a time, or with the newest.
struct Start {
    std::optional<std::uint64_t> after;
    std::optional<Time> from;
};

std::optional<Start> parse_since(const std::string& text) {
    if (text.empty()) return Start{};
    std::uint64_t sequence = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), sequence);
    if (error == std::errc{} && end == text.data() + text.size()) return Start{sequence, std::nullopt};
    const auto ago = parse_duration(text);
    if (!ago) return std::nullopt;
    const auto now = std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now());
    return Start{0, now - *ago};
}

void print_event(const Settings& settings, const Event& event) {
    print((settings.json() ? to_json(event) : render(event, settings.view())) + "\n");
}

Outcome<EventPage> get_page(const Settings& settings, const std::optional<std::uint64_t>& after,
                            std::uint64_t limit) {
    std::string target = fmt::format("/v1/events?limit={}", limit);
    if (after) target += fmt::format("&since={}", *after);
    auto body = settings.client().get(target, kDeadline);
    if (!body) return tl::unexpected(body.error());
    auto page = from_json<EventPage>(*body);
    if (!page) return tl::unexpected(ApiError(page.error()));
    return *page;
}

/// Prints what there is and returns the last sequence seen.
Outcome<std::uint64_t> print_pages(const Settings& settings, const Start& start, std::uint64_t limit) {
    std::optional<std::uint64_t> after = start.after;
    const bool all = start.from.has_value();
    std::uint64_t left = all ? UINT64_MAX : limit;
    while (true) {
        auto page = get_page(settings, after, std::min<std::uint64_t>(left, kMaxEventPage));
        if (!page) return tl::unexpected(page.error());
        for (const Event& event : page->events) {
            if (!start.from || event.time >= *start.from) print_event(settings, event);
        }
        if (!page->events.empty()) after = page->events.back().sequence;
        left -= std::min<std::uint64_t>(left, page->events.size());
        if (!start.after || left == 0 || page->events.empty() || page->events.back().sequence >= page->last) {
            return page->events.empty() ? page->last : page->events.back().sequence;
        }
    }
}

/// False: the line is no event of ours.
bool print_line(const Settings& settings, std::string_view line, std::uint64_t& after) {
    auto event = from_json<Event>(line);
    if (!event) return false;
    if (event->sequence > after + 1 && after > 0) {
        note(fmt::format("lbctl: {} not kept any more\n", plural(event->sequence - after - 1, "event")));
    }
    after = event->sequence;
    print_event(settings, *event);
    return true;
}

ExitCode follow(const Settings& settings, std::uint64_t after) {
    ApiError last(api::ErrorCode::kUnavailable, "following events", "the control process ended the stream");
    for (int tries = 0; tries < kRetries; ++tries) {
        auto ended = settings.client().stream(fmt::format("/v1/events?follow=1&since={}", after), kSilence,
                                              [&](std::string_view line) {
                                                  tries = 0;
                                                  return line.empty() || print_line(settings, line, after);
                                              });
        if (!ended && ended.error().code == api::ErrorCode::kInvalidArgument)
            return report(settings, ended.error());
        if (!ended) last = ended.error();
        if (tries == 0) note("lbctl: " + printable(last.to_string()) + "; trying again every second\n");
        std::this_thread::sleep_for(kRetryAfter);
    }
    return report(settings, last);
}

}  // namespace

ExitCode show_events(const Settings& settings, const EventsQuery& query) {
    const auto start = parse_since(query.since);
    if (!start) {
        return report(settings,
                      ApiError(api::ErrorCode::kInvalidArgument, "reading --since",
                               fmt::format("'{}' is neither a number of an event nor a duration such as 15m",
                                           query.since)));
    }
    auto last = print_pages(settings, *start, query.limit);
    if (!last) return report(settings, last.error());
    return query.follow ? follow(settings, *last) : ExitCode::kDone;
}

}  // namespace detour::lbctl

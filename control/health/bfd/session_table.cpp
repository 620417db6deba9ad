#include "control/health/bfd/session_table.h"

#include <algorithm>
#include <limits>
#include <string>

namespace detour::bfd {

namespace {

constexpr std::string_view kAdding = "adding a BFD session";
constexpr Ttl kOnLink{255};

bool in_range(microseconds interval) {
    return interval.count() >= 1 && interval.count() <= std::numeric_limits<std::uint32_t>::max();
}

bool same_or_any(const std::optional<api::IpAddress>& a, const std::optional<api::IpAddress>& b) {
    return !a || !b || *a == *b;
}

bool same_or_any(Interface a, Interface b) {
    return a == Interface{} || b == Interface{} || a == b;
}

/// Could a packet belong to both?
bool overlap(const Path& a, const Path& b) {
    return a.hop == b.hop && a.remote == b.remote && same_or_any(a.local, b.local) &&
           same_or_any(a.interface, b.interface);
}

bool came_by(const Arrival& arrival, const Path& path) {
    return arrival.hop == path.hop && arrival.source == path.remote &&
           same_or_any(path.local, arrival.destination) &&
           (path.interface == Interface{} || path.interface == arrival.interface);
}

api::Result<void> check(const Path& path, const Intervals& intervals) {
    const auto refuse = [](std::string what) {
        return api::fail(api::ErrorCode::kInvalidArgument, std::string(kAdding), std::move(what));
    };
    if (path.local && path.local->is_v6() != path.remote.is_v6())
        return refuse("local address " + path.local->to_string() + " and remote address " +
                      path.remote.to_string() + " are of two families");
    if (intervals.detect_mult == 0) return refuse("detect multiplier 0, expected 1 to 255");
    for (const microseconds interval : {intervals.desired_min_tx, intervals.required_min_rx})
        if (!in_range(interval))
            return refuse("interval " + std::to_string(interval.count()) +
                          " us, expected 1 to 4294967295 us");
    return {};
}

}  // namespace

api::Result<SessionId> SessionTable::add(const Path& path, Intervals intervals, Monotonic now) {
    if (const auto checked = check(path, intervals); !checked) return tl::unexpected(checked.error());
    if (entries_.size() >= kMaxSessions)
        return api::fail(api::ErrorCode::kLimit, std::string(kAdding),
                         "there are " + std::to_string(kMaxSessions) + " already");
    for (const auto& [id, entry] : entries_)
        if (overlap(entry.path, path))
            return api::fail(api::ErrorCode::kInvalidArgument, std::string(kAdding),
                             "there is one with " + path.remote.to_string() + " already");
    Discriminator local{random_()};
    while (local == Discriminator{} || taken(local)) local = Discriminator{random_()};
    const std::uint64_t seed = std::uint64_t{random_()} << 32 | random_();
    const SessionId id{++last_id_};
    entries_.emplace(id, Entry{path, Session(intervals, local, seed, now)});
    return id;
}

bool SessionTable::taken(Discriminator discriminator) const {
    return std::any_of(entries_.begin(), entries_.end(),
                       [&](const auto& item) { return item.second.session.local() == discriminator; });
}

void SessionTable::remove(SessionId id) {
    entries_.erase(id);
}

Session* SessionTable::find(SessionId id) {
    const auto found = entries_.find(id);
    return found == entries_.end() ? nullptr : &found->second.session;
}

const Path* SessionTable::path(SessionId id) const {
    const auto found = entries_.find(id);
    return found == entries_.end() ? nullptr : &found->second.path;
}

void SessionTable::drop(Drop reason) {
    ++counters_.dropped[static_cast<std::size_t>(reason)];
}

tl::expected<SessionId, Drop> SessionTable::select(const ControlPacket& packet,
                                                   const Arrival& arrival) const {
    const bool named = packet.yours != Discriminator{};
    for (const auto& [id, entry] : entries_) {
        if (named && entry.session.local() != packet.yours) continue;
        if (came_by(arrival, entry.path)) {
            if (arrival.ttl < entry.path.least_ttl) return tl::unexpected(Drop::kTtl);
            return id;
        }
        if (named) return tl::unexpected(Drop::kWrongPath);
    }
    return tl::unexpected(named ? Drop::kUnknownDiscriminator : Drop::kNoSession);
}

void SessionTable::on_datagram(std::span<const std::uint8_t> payload, const Arrival& arrival, Monotonic now,
                               const Sink& sink) {
    if (arrival.hop == Hop::kSingle && arrival.ttl != kOnLink) return drop(Drop::kTtl);
    const auto packet = decode(payload);
    if (!packet) return drop(packet.error());
    const auto id = select(*packet, arrival);
    if (!id) return drop(id.error());
    ++counters_.received;
    sink(*id, entries_.at(*id).session.on_packet(*packet, now));
}

void SessionTable::on_timer(Monotonic now, const Sink& sink) {
    for (auto& [id, entry] : entries_)
        if (entry.session.next_timer() <= now) sink(id, entry.session.on_timer(now));
}

Monotonic SessionTable::next_timer() const {
    Monotonic next = health::kNever;
    for (const auto& [id, entry] : entries_) next = std::min(next, entry.session.next_timer());
    return next;
}

}  // namespace detour::bfd

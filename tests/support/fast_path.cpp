#include "tests/support/fast_path.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <stdexcept>

#include "tests/support/quic_packets.h"

namespace detour::support {
namespace {

/// Frames that the fast path sent, into the pcap file that DETOUR_TEST_PCAP names, if it does: a hundred of
/// each reason and length. Packet tests run in one thread.
class Recorder {
  public:
    void record(const core::Packet& p) {
        const std::span frame(p.data, p.length);
        if (file_ == nullptr || ++seen_[{p.reason, p.length}] > 100) return;
        write(std::array<std::uint32_t, 4>{0, 0, p.length, p.length});
        std::fwrite(frame.data(), 1, frame.size(), file_.get());
    }

    static Recorder& instance() {
        static Recorder recorder;
        return recorder;
    }

  private:
    Recorder() {
        const char* path = std::getenv("DETOUR_TEST_PCAP");
        if (path == nullptr) return;
        file_.reset(std::fopen(path, "wb"));
        if (file_ == nullptr) throw std::runtime_error(std::string(path) + ": can't be written");
        // Microseconds, version 2.4, whole packets, Ethernet.
        write(std::array<std::uint32_t, 6>{0xa1b2c3d4, 0x00040002, 0, 0, 65535, 1});
    }
    template <std::size_t N>
    void write(const std::array<std::uint32_t, N>& words) {
        std::fwrite(words.data(), sizeof words[0], N, file_.get());
    }

    struct Close {
        void operator()(std::FILE* file) const { std::fclose(file); }
    };
    std::unique_ptr<std::FILE, Close> file_;
    std::map<std::pair<api::Reason, std::uint16_t>, int> seen_;
};

}  // namespace

FastPath::FastPath(const api::ForwardingPlan& plan, std::size_t flows, std::uint64_t inserts,
                   std::size_t syns)
    : worker(std::make_unique<stages::WorkerState>(stages::WorkerLimits{
          .flows_v4 = flows, .flows_v6 = flows, .syns = syns, .workers = 1, .inserts = inserts})) {
    apply(plan);
}

void FastPath::apply(const api::ForwardingPlan& plan) {
    auto built = core::build_tables(plan, tables.get());
    if (!built) throw std::runtime_error(built.error().to_string());
    tables = std::move(*built);
}

Out FastPath::send(const Bytes& frame, std::uint16_t headroom) {
    // Exactly as much memory as there is packet, so that a sanitizer sees a read beyond it.
    std::vector<std::uint8_t> buffer(headroom + frame.size());
    std::copy(frame.begin(), frame.end(), buffer.begin() + headroom);
    auto batch = std::make_unique<core::Batch>();
    batch->count = 1;
    core::Packet& p = batch->packets[0];
    p.data = buffer.data() + headroom;
    p.length = static_cast<std::uint16_t>(frame.size());
    p.headroom = headroom;
    p.port = 0;
    p.backend = 65535;
    p.site = 255;
    worker->set_time(now_);
    const auto sample = stages::WayBack::sample(p);
    stages::run(*batch, stages::Context{*tables, host, *worker});
    worker->way_back.learn(sample, p);
    take_segments();
    Out out{.verdict = p.verdict,
            .reason = p.reason,
            .bytes = {},
            .port = p.port,
            .backend = p.backend,
            .site = p.site};
    if (p.verdict == core::Verdict::kTransmit) {
        out.bytes.assign(p.data, p.data + p.length);
        Recorder::instance().record(p);
    }
    if (p.verdict == core::Verdict::kHold) held_[p.backend] = frame;
    return out;
}

stages::SweepResult FastPath::sweep_stranded(std::size_t buckets) {
    worker->set_time(now_);
    const auto result = stages::sweep_stranded(stages::Context{*tables, host, *worker}, buckets);
    take_segments();
    return result;
}

void FastPath::take_segments() {
    for (const core::Segment& segment : worker->segments.all()) {
        // Exactly as much memory as a frame may take.
        std::vector<std::uint8_t> buffer(core::kSegmentHeadroom + core::kSegmentBytes);
        core::Packet p;
        p.data = buffer.data() + core::kSegmentHeadroom;
        p.headroom = core::kSegmentHeadroom;
        const bool v6 = tables->has_vip(segment.vip) && tables->vip_addresses[segment.vip].v6 != 0;
        if (!core::make_frame(segment, *tables, worker->way_back.to_clients(v6), p)) {
            worker->swept.undelivered.add(1);
            continue;
        }
        made_.push_back({Bytes(p.data, p.data + p.length), p.port});
        Recorder::instance().record(p);
    }
    worker->segments.clear();
}

std::vector<Out> FastPath::resume() {
    std::vector<Bytes> frames;
    worker->set_time(now_);
    worker->fragments.take_due(worker->now_ms(), [&](std::uint16_t slot, core::FragmentCache::Due due) {
        const Bytes frame = held_.at(slot);
        held_.erase(slot);
        if (due == core::FragmentCache::Due::kReleased) return frames.push_back(frame);
        worker->counters[static_cast<std::size_t>(api::Reason::kFragment)].add(1);
    });
    std::vector<Out> outs;
    for (const Bytes& frame : frames) outs.push_back(send(frame));
    return outs;
}

void FastPath::sweep() {
    worker->set_time(now_);
    for (int i = 0; i < 1'000'000 && worker->scanned() != tables->generation.value(); ++i)
        worker->sweep(*tables, 64);
}

std::string backend_address(std::size_t site, std::size_t index, bool v6) {
    return v6 ? fmt::format("2001:db8:{:x}::{:x}", site, index + 0x10)
              : fmt::format("10.{}.0.{}", site, index + 10);
}

namespace {

api::Mac mac(std::string_view text) {
    const Bytes frame = Frame().ether(text, text).bytes();
    api::Mac out;
    std::copy_n(frame.begin(), 6, out.bytes.begin());
    return out;
}

Bytes server_id(unsigned rotation, std::size_t site, std::size_t index) {
    const auto s = static_cast<std::uint8_t>(site);
    const auto i = static_cast<std::uint8_t>(index);
    return rotation == 1 ? Bytes{0xee, s, i} : Bytes{s, i};
}

std::vector<api::QuicServerId> server_ids(const PlanOptions& o, std::size_t site, std::size_t index) {
    std::vector<api::QuicServerId> ids;
    if (o.hash != api::HashKey::kQuicCid) return ids;
    for (const unsigned rotation : {0U, 1U}) {
        const Bytes id = server_id(rotation, site, index);
        ids.push_back(*api::QuicServerId::make(rotation, std::string(id.begin(), id.end())));
    }
    return ids;
}

api::PlanPool make_pool(const PlanOptions& o, std::uint16_t id, std::string_view name) {
    api::PlanPool pool{.id = api::PoolId{id}, .name = std::string(name)};
    pool.encap = o.encap;
    pool.stranded = o.stranded;
    pool.hash = o.hash;
    pool.on_empty = o.on_empty;
    for (std::size_t s = 1; s <= o.sites; ++s) {
        api::PlanPoolSite site{.site = api::SiteId{static_cast<std::uint8_t>(s)}, .weight = api::Weight{100}};
        for (std::size_t b = 0; b < o.backends; ++b) {
            const auto number = static_cast<std::uint16_t>(id * 1000 + s * 100 + b);
            site.backends.push_back({api::BackendId{number},
                                     *api::IpAddress::parse(backend_address(s, b, o.v6_backends)),
                                     api::Weight{100}, api::NextHopId{0}, server_ids(o, s, b)});
        }
        pool.sites.push_back(site);
    }
    return pool;
}

}  // namespace

Bytes server_cid(std::uint16_t backend, unsigned rotation) {
    return quic_lb_cid(rotation, server_id(rotation, backend % 1000U / 100U, backend % 100U));
}

api::ForwardingPlan make_plan(const PlanOptions& o) {
    api::ForwardingPlan plan;
    plan.generation = api::Generation{1};
    plan.seed = api::FleetSeed::from_text("a seed for tests, the same everywhere");
    plan.source_v4 = *api::IpAddress::parse("192.0.2.1");
    plan.source_v6 = *api::IpAddress::parse("2001:db8::1");
    for (std::size_t s = 1; s <= o.sites; ++s) {
        const std::string name = fmt::format("site{}", s);
        plan.sites.push_back({api::SiteId{static_cast<std::uint8_t>(s)}, name, name, api::Sequence{0}});
    }
    plan.next_hops.push_back(
        {api::NextHopId{0}, api::EgressPort{1}, mac(kOutMac), mac(kNextHopMac), o.mtu, true});
    api::PlanPool tcp = make_pool(o, 0, "talk");
    tcp.vips = {{api::VipId{0}, *api::Vip::parse("203.0.113.10:443/tcp")},
                {api::VipId{1}, *api::Vip::parse("[2001:db8:f::10]:443/tcp")}};
    api::PlanPool udp = make_pool(o, 1, "dns");
    udp.vips = {{api::VipId{2}, *api::Vip::parse("203.0.113.10:53/udp")},
                {api::VipId{3}, *api::Vip::parse("[2001:db8:f::10]:53/udp")}};
    plan.pools = {tcp, udp};
    return plan;
}

}  // namespace detour::support

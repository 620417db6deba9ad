// The pipeline against a plain memory of flows on ten million random packets (DETOUR_MODEL_PACKETS for
// another number): a few hundred flows whose SYNs, handshakes, data, ends, stray segments and datagrams come
// in any order, while switches, plans and time change under them. What becomes of each packet is compared,
// and every byte of each frame that leaves.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "tests/stress/comparisons.h"
#include "tests/support/fast_path.h"
#include "tests/support/flow_model.h"
#include "tests/support/quic_packets.h"
#include "tests/support/tunnelled.h"

using namespace detour;
using namespace detour::support;

namespace {

constexpr std::size_t kFlows = 300;
constexpr std::size_t kBurstsOfRound = 2000;
constexpr std::uint32_t kBurst = 32;
constexpr std::size_t kHeadroom = 128;
constexpr std::size_t kFrameRoom = 256;
constexpr std::uint64_t kMs = 1'000'000;

/// One client's connections, one after the other with the same 5-tuple.
struct Peer {
    model::Flow flow;
    std::string address;
    std::uint32_t isn = 0;
    std::uint32_t acknowledged = 0;

    [[nodiscard]] bool v6() const { return flow.client.is_v6(); }
    [[nodiscard]] bool udp() const { return flow.vip.protocol == api::Protocol::kUdp; }
};

std::vector<Peer> make_peers(std::mt19937_64& random) {
    std::vector<Peer> peers;
    for (std::size_t i = 0; i < kFlows; ++i) {
        Peer p;
        const bool v6 = i % 2 == 1;
        p.address = v6 ? fmt::format("2001:db8:{:x}::{:x}", random() % 0xffffU, i + 1)
                       : fmt::format("198.18.{}.{}", i / 200, i % 200 + 1);
        p.flow = {*api::IpAddress::parse(p.address),
                  api::Port{static_cast<std::uint16_t>(1 + random() % 65535)},
                  *api::Vip::parse(fmt::format("{}:{}", v6 ? "[2001:db8:f::10]" : "203.0.113.10",
                                               i % 5 < 3 ? "443/tcp" : "53/udp"))};
        peers.push_back(std::move(p));
    }
    return peers;
}

/// A packet as the model has it and as it comes by the wire.
struct Sent {
    model::Packet packet;
    Bytes frame;
    std::size_t link_header = 14;
    std::size_t payload = 0;  ///< of TCP, bytes
};

/// One thread's part. `wrong` is the first disagreement; doctest's checks are for one thread.
class Comparison {
  public:
    Comparison(std::uint64_t seed, std::uint32_t /*number*/) : random_(seed) {}

    void run(std::size_t packets) {
        while (compared < packets && wrong.empty()) round();
    }

    std::size_t compared = 0;
    std::array<std::size_t, api::kReasonCount> reasons{};
    std::string wrong;

  private:
    [[nodiscard]] bool one_in(unsigned n) { return random_() % n == 0; }
    [[nodiscard]] std::size_t below(std::size_t n) { return random_() % n; }
    template <class T, std::size_t N>
    [[nodiscard]] T any_of(const std::array<T, N>& values) {
        return values[below(N)];
    }

    void round() {
        options_ = {
            .encap = any_of(std::array{api::Encap::kGue, api::Encap::kIpip, api::Encap::kGre}),
            .v6_backends = one_in(2),
            .stranded =
                any_of(std::array{api::Stranded::kReset, api::Stranded::kRehash, api::Stranded::kKeep}),
            .hash =
                any_of(std::array{api::HashKey::kFiveTuple, api::HashKey::kSource, api::HashKey::kQuicCid}),
            .on_empty = any_of(std::array{api::Refusal::kDrop, api::Refusal::kReset}),
            .sites = 1 + below(6),
            .backends = 1 + below(6)};
        generation_ = 0;
        switches_ = {};
        peers_ = make_peers(random_);
        const api::ForwardingPlan plan = next_plan();
        fast_ = std::make_unique<FastPath>(plan, 8 * kFlows, 0, 1U << 14U);
        model_ = std::make_unique<model::FlowModel>(plan);
        now_ns_ = 1'000'000'000'000ULL;
        swept_ns_ = now_ns_;
        for (std::size_t i = 0; i < kBurstsOfRound && wrong.empty(); ++i) {
            pass_time();
            if (one_in(4)) throw_switch();
            if (one_in(200)) change_plan();
            burst();
        }
    }

    api::ForwardingPlan next_plan() {
        api::ForwardingPlan plan = make_plan(options_);
        plan.generation = api::Generation{++generation_};
        plan.resets_per_second = 1'000'000;  // never spent
        return plan;
    }

    /// Sites and backends come and go; those that stay keep their ids.
    void change_plan() {
        options_.sites = 1 + below(6);
        options_.backends = 1 + below(6);
        const api::ForwardingPlan plan = next_plan();
        fast_->apply(plan);
        model_->apply(plan);
    }

    void pass_time() {
        const std::array<std::uint64_t, 12> ms{1,   1,     3,     7,      20,     40,
                                               300, 2'000, 9'000, 40'000, 70'000, 130'000};
        now_ns_ += ms[one_in(5) ? below(ms.size()) : below(6)] * kMs;
        // Two hours, with a sweep now and then: the tables' clocks go round in less.
        for (int left = one_in(400) ? 10 : 0; left != 0; --left) {
            now_ns_ += 730'000 * kMs;
            sweep();
        }
        // What is too old may give way to another flow before the sweep meets it: the sweep comes first.
        if (now_ns_ / core::kTickNs != swept_ns_ / core::kTickNs) sweep();
        fast_->worker->set_time(now_ns_);
    }
    void sweep() {
        fast_->worker->set_time(now_ns_);
        const stages::WorkerState& w = *fast_->worker;
        const std::size_t everything =
            w.flows_v4.buckets() + w.flows_v6.buckets() + w.syns_v4.size() / 4 + api::kMaxBackends / 16 + 1;
        fast_->worker->sweep(*fast_->tables, everything);
        model_->sweep(now_ns_);
        swept_ns_ = now_ns_;
    }

    void throw_switch() {
        const api::SiteId site{static_cast<std::uint8_t>(1 + below(options_.sites))};
        const api::PoolId pool{static_cast<std::uint16_t>(below(2))};
        const bool calm = one_in(3);
        const bool keep = calm || !one_in(3);
        if (one_in(2)) {
            const auto number = pool.value() * 1000U + site.value() * 100U + below(options_.backends);
            const api::BackendId backend{static_cast<std::uint16_t>(number)};
            const core::BackendValue value{calm || one_in(2), keep, !keep && one_in(2)};
            switches_.backends[backend] = value;
            fast_->host.set_backend(backend, value);
            return;
        }
        const auto admit = [&] {
            if (calm || one_in(3)) return api::kAdmitAll;
            return one_in(3) ? api::kAdmitNone : api::Admit{static_cast<std::uint16_t>(random_())};
        };
        const core::SwitchValue value{admit(), admit(), keep, !keep && one_in(2)};
        if (one_in(3)) {
            switches_.pools[{pool, site}] = value;
            fast_->host.set_pool_site(pool, site, value);
        } else {
            switches_.sites[site] = value;
            fast_->host.set_site(site, value);
        }
    }

    void tcp(Peer& peer, model::Packet& p) {
        // What comes in a connection's life, and what nobody in his right mind would send.
        const std::array<std::uint8_t, 16> all{
            kAck,        kAck,        kAck,        kAck | kPsh, kAck | kPsh,
            kSyn,        kSyn,        kAck,        kFin | kAck, kRst,
            kRst | kAck, kSyn | kAck, kSyn | kPsh, kPsh,        kFin | kPsh | kAck,
            kAck | 0x20};
        p.flags = any_of(all);
        if ((p.flags & kSyn) != 0 && !one_in(3)) peer.isn = static_cast<std::uint32_t>(random_());
        const std::array<std::uint32_t, 8> beyond{
            1, 1, 1, 2, 1461, 65'536, 65'537, static_cast<std::uint32_t>(random_())};
        p.sequence = peer.isn + ((p.flags & kSyn) != 0 ? 0 : any_of(beyond));
        if (one_in(6)) peer.acknowledged = static_cast<std::uint32_t>(random_());
        peer.acknowledged += static_cast<std::uint32_t>(below(3000));
        p.acknowledgement = peer.acknowledged - (one_in(5) ? 4000U : 0U);
    }

    /// Short and long headers, of servers that are there, were there and never were, and other bytes.
    void udp(model::Packet& p) {
        const auto backend = static_cast<std::uint16_t>(1000 + (1 + below(6)) * 100 + below(6));
        const Bytes cid = server_cid(backend, static_cast<unsigned>(below(3)));
        const std::uint32_t version = any_of(std::array<std::uint32_t, 3>{kQuic1, kQuic2, 0x0a0a0a0a});
        const auto type = static_cast<QuicType>(below(4));
        p.datagram = one_in(4)   ? Bytes(below(30), static_cast<std::uint8_t>(random_()))
                     : one_in(2) ? quic_short(cid)
                                 : quic_long(type, version, cid);
    }

    Sent make(Peer& peer) {
        Sent sent;
        sent.packet.flow = peer.flow;
        peer.udp() ? udp(sent.packet) : tcp(peer, sent.packet);
        Frame frame = ether(kRouterMac, kHostMac, sent.link_header);
        peer.v6() ? frame.ipv6(peer.address, "2001:db8:f::10") : frame.ipv4(peer.address, "203.0.113.10");
        const std::uint16_t port = peer.flow.client_port.value();
        if (peer.udp()) {
            frame.udp(port, 53).raw(sent.packet.datagram);
        } else {
            sent.payload = below(40);
            frame.tcp({port, 443, sent.packet.flags, sent.packet.sequence, sent.packet.acknowledgement});
            frame.payload(sent.payload);
        }
        sent.frame = frame.bytes();
        return sent;
    }
    /// With a VLAN tag, now and then.
    Frame ether(std::string_view from, std::string_view to, std::size_t& link_header) {
        Frame frame;
        frame.ether(from, to);
        if (one_in(8)) {
            frame.vlan(7);
            link_header = 18;
        }
        return frame;
    }

    void burst() {
        // No flow twice in a burst: the pipeline may look at a burst's packets in another order.
        std::array<std::size_t, kFlows> order;
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::array<Sent, kBurst> sent;
        std::array<model::Fate, kBurst> wanted;
        std::vector<Told> told;
        batch_.count = kBurst;
        for (std::uint32_t i = 0; i < kBurst; ++i) {
            std::swap(order[i], order[i + below(kFlows - i)]);
            sent[i] = make(peers_[order[i]]);
            core::Packet& packet = batch_.packets[i];
            packet = {};
            packet.data = buffers_[i].data() + kHeadroom;
            packet.length = static_cast<std::uint16_t>(sent[i].frame.size());
            packet.headroom = kHeadroom;
            std::ranges::copy(sent[i].frame, packet.data);
            wanted[i] = model_->receive(sent[i].packet, switches_, now_ns_);
            if (wanted[i].told) tell(sent[i], *wanted[i].told, told);
        }
        stages::run(batch_, stages::Context{*fast_->tables, fast_->host, *fast_->worker});
        for (std::uint32_t i = 0; i < kBurst && wrong.empty(); ++i)
            compare(batch_.packets[i], wanted[i], sent[i]);
        std::vector<Told> got;
        for (const core::Segment& s : fast_->worker->segments.all())
            got.push_back({s.client_port, s.backend, s.flags, s.sequence, s.acknowledgement});
        if (wrong.empty() && got != told)
            wrong = fmt::format("{} segments to backends, the model says {}", got.size(), told.size());
        fast_->worker->segments.clear();
        compared += kBurst;
    }

    /// A segment of our own to a backend.
    struct Told {
        std::uint16_t client_port = 0;  ///< wire order
        std::uint16_t backend = 0;
        std::uint8_t flags = 0;
        std::uint32_t sequence = 0;
        std::uint32_t acknowledgement = 0;
        bool operator==(const Told&) const = default;
    };
    /// A RST at the client's number, and one behind its data if there is any: the backend may have them or
    /// not.
    static void tell(const Sent& sent, api::BackendId backend, std::vector<Told>& told) {
        const model::Packet& p = sent.packet;
        const std::uint16_t port = p.flow.client_port.value();
        const auto wire = static_cast<std::uint16_t>(port << 8U | port >> 8U);
        told.push_back({wire, backend.value(), kRst, p.sequence, 0});
        if (sent.payload == 0) return;
        told.push_back(
            {wire, backend.value(), kRst, p.sequence + static_cast<std::uint32_t>(sent.payload), 0});
    }

    [[nodiscard]] Bytes leaves_as(const model::Fate& want, const Sent& sent) const {
        const model::Packet& p = sent.packet;
        if (want.backend) {
            const std::uint64_t hash = model_->choices().hash_of(p.flow, api::HashKey::kFiveTuple);
            const std::size_t site = want.backend->value() / 100U % 10U;
            return tunnelled(
                {.encap = options_.encap,
                 .outer_v6 = options_.v6_backends,
                 .backend = backend_address(site, want.backend->value() % 100U, options_.v6_backends),
                 .source_port =
                     static_cast<std::uint16_t>(((hash >> 48U & 0xffU) | 0xc0U) << 8U | hash >> 56U),
                 .flow_label = static_cast<std::uint32_t>(hash >> 44U),
                 .inner_link = sent.link_header},
                sent.frame);
        }
        if (want.reason != api::Reason::kResetSent && want.reason != api::Reason::kEmptyReset) return {};
        Frame frame;
        frame.ether(kHostMac, kRouterMac);
        if (sent.link_header != 14) frame.vlan(7);
        const std::string client = p.flow.client.to_string();
        p.flow.client.is_v6() ? frame.ipv6("2001:db8:f::10", client) : frame.ipv4("203.0.113.10", client);
        const TcpFields fields =
            want.reason == api::Reason::kResetSent
                ? TcpFields{443, p.flow.client_port.value(), kRst, p.acknowledgement, 0}
                : TcpFields{443, p.flow.client_port.value(), kRst | kAck, 0, p.sequence + 1};
        return frame.tcp(fields).bytes();
    }

    void compare(const core::Packet& got, const model::Fate& want, const Sent& sent) {
        ++reasons[static_cast<std::size_t>(want.reason)];
        const Bytes bytes = leaves_as(want, sent);
        const bool leaves = got.verdict == core::Verdict::kTransmit;
        const Bytes frame = leaves ? Bytes(got.data, got.data + got.length) : Bytes{};
        const bool same_backend = !want.backend || got.backend == want.backend->value();
        if (got.reason == want.reason && same_backend && frame == bytes) return;
        wrong = fmt::format(
            "flags {:#x}, stranded {}: the model says {}, backend {}; the pipeline {}, backend {}\n{}\n{}",
            sent.packet.flags, static_cast<int>(options_.stranded), api::info(want.reason).name,
            want.backend ? want.backend->value() : 0, api::info(got.reason).name, got.backend, hex(bytes),
            hex(frame));
    }

    std::mt19937_64 random_;
    PlanOptions options_;
    std::uint64_t generation_ = 0;
    std::uint64_t now_ns_ = 0;
    std::uint64_t swept_ns_ = 0;
    std::vector<Peer> peers_;
    model::Switches switches_;
    std::unique_ptr<FastPath> fast_;
    std::unique_ptr<model::FlowModel> model_;
    core::Batch batch_;
    std::array<std::array<std::uint8_t, kFrameRoom>, kBurst> buffers_{};
};

}  // namespace

TEST_CASE("the pipeline and the plain memory of flows agree on ten million random packets") {
    const std::size_t packets = model_packets();
    const auto parts = run_in_two<Comparison>(packets);
    std::size_t compared = 0;
    std::array<std::size_t, api::kReasonCount> reasons{};
    for (const auto& part : parts) {
        CHECK(part->wrong == "");
        compared += part->compared;
        for (std::size_t r = 0; r < reasons.size(); ++r) reasons[r] += part->reasons[r];
    }
    std::printf("%zu packets compared\n", compared);
    CHECK(compared >= packets);
    using api::Reason;
    for (const Reason reason :
         {Reason::kForwardedNew, Reason::kForwardedHandshake, Reason::kForwardedPinned, Reason::kForwardedMid,
          Reason::kForwardedRehashed, Reason::kForwardedCid, Reason::kResetSent, Reason::kEmptyReset,
          Reason::kStranded, Reason::kNoSite, Reason::kNoBackend}) {
        const std::size_t seen = reasons[static_cast<std::size_t>(reason)];
        std::printf("%-24s %zu\n", std::string(api::info(reason).name).c_str(), seen);
        CHECK_MESSAGE(seen > packets / 2000, std::string(api::info(reason).name));
    }
}

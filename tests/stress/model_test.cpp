// The pipeline against the slow, obvious model on ten million random packets (DETOUR_MODEL_PACKETS for
// another number): new and mid-flow packets of both families, under random plans and random switches.
#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/stress/comparisons.h"
#include "tests/support/fast_path.h"
#include "tests/support/model.h"
#include "tests/support/packets.h"
#include "tests/support/random_switches.h"

using namespace detour;
using namespace detour::support;

namespace {

constexpr std::size_t kPacketsOfRound = 20'000;
constexpr std::uint32_t kBurst = 32;
constexpr std::size_t kHeadroom = 128;
constexpr std::size_t kFrameRoom = 256;

/// A frame of one kind, whose client is written into it.
struct Template {
    Bytes bytes;
    bool v6 = false;
    bool mid_flow = false;
    api::Vip vip;
    [[nodiscard]] std::size_t l4() const { return v6 ? 54 : 34; }
};

std::array<Template, 6> make_templates() {
    std::array<Template, 6> made;
    for (std::size_t i = 0; i < made.size(); ++i) {
        Template& t = made[i];
        t.v6 = i % 2 == 1;
        t.mid_flow = i / 2 == 1;
        const bool udp = i / 2 == 2;
        Frame frame;
        frame.ether(kRouterMac, kHostMac);
        t.v6 ? frame.ipv6("2001:db8::1", "2001:db8:f::10") : frame.ipv4("198.18.0.1", "203.0.113.10");
        udp ? frame.udp(1, 53) : frame.tcp({1, 443, t.mid_flow ? kAck : kSyn, 7, 1});
        t.bytes = frame.bytes();
        const std::string port = udp ? "53/udp" : "443/tcp";
        t.vip = *api::Vip::parse((t.v6 ? "[2001:db8:f::10]:" : "203.0.113.10:") + port);
    }
    return made;
}

/// No client comes twice: what an earlier packet left in the tables is of no concern to a later one.
struct Client {
    api::IpAddress address;
    api::Port port;
};

Client make_client(std::mt19937_64& random, std::uint32_t number, bool v6) {
    const std::array<std::uint8_t, 4> low{11, static_cast<std::uint8_t>(number >> 16U),
                                          static_cast<std::uint8_t>(number >> 8U),
                                          static_cast<std::uint8_t>(number)};
    const api::Port port{static_cast<std::uint16_t>(1 + random() % 65535)};
    if (!v6) return {api::IpAddress::v4(low), port};
    std::array<std::uint8_t, 16> bytes{0x20, 0x01, 0x0d, 0xb8};
    for (std::size_t i = 4; i < 12; ++i) bytes[i] = static_cast<std::uint8_t>(random());
    std::copy(low.begin(), low.end(), bytes.begin() + 12);
    return {api::IpAddress::v6(bytes), port};
}

void write_client(std::uint8_t* frame, const Template& kind, const Client& client) {
    std::memcpy(frame + (kind.v6 ? 22 : 26), client.address.bytes().data(), client.address.size());
    frame[kind.l4()] = static_cast<std::uint8_t>(client.port.value() >> 8U);
    frame[kind.l4() + 1] = static_cast<std::uint8_t>(client.port.value());
    if (kind.v6) return;
    frame[24] = frame[25] = 0;
    const std::uint16_t sum = plain_checksum(Bytes(frame + 14, frame + 34));
    frame[24] = static_cast<std::uint8_t>(sum >> 8U);
    frame[25] = static_cast<std::uint8_t>(sum);
}

/// One thread's part. `wrong` is the first disagreement; doctest's checks are for one thread.
class Comparison {
  public:
    Comparison(std::uint64_t seed, std::uint32_t number) : random_(seed), next_client_(number << 23U) {}

    void run(std::size_t packets) {
        for (compared = 0; compared < packets && wrong.empty();) round();
    }

    std::size_t compared = 0;
    std::size_t chosen = 0;  ///< of them sent to a backend
    std::string wrong;

  private:
    void round() {
        const std::array encaps{api::Encap::kGue, api::Encap::kIpip, api::Encap::kGre};
        const api::ForwardingPlan plan =
            make_plan({.encap = encaps[random_() % 3],
                       .hash = random_() % 2 == 0 ? api::HashKey::kFiveTuple : api::HashKey::kSource,
                       .sites = 1 + random_() % 9,
                       .backends = 1 + random_() % 12});
        const model::Model model(plan);
        FastPath fast(plan, 4 * kPacketsOfRound);
        const model::Switches switches = throw_switches(random_, plan, fast.host);
        fast.worker->set_time(1'000'000'000'000ULL);
        for (std::size_t i = 0; i < kPacketsOfRound && wrong.empty(); i += kBurst)
            burst(fast, model, switches);
    }

    void burst(FastPath& fast, const model::Model& model, const model::Switches& switches) {
        std::array<model::Choice, kBurst> wanted;
        batch_.count = kBurst;
        for (std::uint32_t i = 0; i < kBurst; ++i) {
            const Template& kind = templates_[random_() % templates_.size()];
            const Client client = make_client(random_, next_client_++, kind.v6);
            core::Packet& packet = batch_.packets[i];
            packet = {};
            packet.data = buffers_[i].data() + kHeadroom;
            packet.length = static_cast<std::uint16_t>(kind.bytes.size());
            packet.headroom = kHeadroom;
            std::copy(kind.bytes.begin(), kind.bytes.end(), packet.data);
            write_client(packet.data, kind, client);
            wanted[i] = *model.choose({client.address, client.port, kind.vip}, switches,
                                      kind.mid_flow ? model::Admission::kMid : model::Admission::kNew);
        }
        stages::run(batch_, stages::Context{*fast.tables, fast.host, *fast.worker});
        for (std::uint32_t i = 0; i < kBurst; ++i) compare(batch_.packets[i], wanted[i]);
        compared += kBurst;
    }

    void compare(const core::Packet& got, const model::Choice& want) {
        bool same = false;
        if (want.backend) {
            same = got.verdict == core::Verdict::kTransmit && got.backend == want.backend->value() &&
                   got.site == want.site->value();
            ++chosen;
        } else {
            same = got.verdict == core::Verdict::kDrop &&
                   got.reason == (want.site ? api::Reason::kNoBackend : api::Reason::kNoSite);
        }
        if (same || !wrong.empty()) return;
        wrong = "the model says " +
                (want.backend ? "backend " + std::to_string(want.backend->value()) : "none") +
                ", the pipeline " + std::string(api::info(got.reason).name) + ", backend " +
                std::to_string(got.backend);
    }

    std::mt19937_64 random_;
    std::uint32_t next_client_;
    const std::array<Template, 6> templates_ = make_templates();
    core::Batch batch_;
    std::array<std::array<std::uint8_t, kFrameRoom>, kBurst> buffers_{};
};

}  // namespace

TEST_CASE("the pipeline agrees with the model on ten million random packets") {
    const std::size_t packets = model_packets();
    const auto parts = run_in_two<Comparison>(packets);
    std::size_t compared = 0;
    std::size_t chosen = 0;
    for (const auto& part : parts) {
        CHECK(part->wrong == "");
        compared += part->compared;
        chosen += part->chosen;
    }
    std::printf("%zu packets compared, %zu of them sent to a backend\n", compared, chosen);
    CHECK(compared >= packets);
    CHECK(chosen > packets / 2);
}

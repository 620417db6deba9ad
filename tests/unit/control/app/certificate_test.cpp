// The alarm before a certificate ends: in time, once for each backend and certificate, never for a far one.
#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "control/app/engine.h"
#include "tests/unit/control/sample_config.h"

using namespace detour;
using namespace std::chrono_literals;
using health::Cause;

namespace {

constexpr std::chrono::seconds kWall = 1'800'000'000s;  // 2027-01-15 08:00 UTC

/// One backend that presents certificates.
class Host {
  public:
    explicit Host(std::uint32_t warn_days) : engine_(config_of(warn_days), {}, {}, now()) {
        asked_ = take(engine_.start(now()));
    }

    /// The certificate alarms of two seconds of probes that see a certificate ending at `end`.
    std::vector<std::string> alarms(std::chrono::seconds end, Cause cause = Cause::kOk) {
        alarms_.clear();
        answered_ = 0;
        const health::Outcome outcome{cause, 0, 1ms, std::chrono::sys_seconds(end)};
        for (int i = 0; i < 200; ++i) {
            time_ += 10ms;
            for (const auto& probe : std::exchange(asked_, take(engine_.on_tick(now())))) {
                ++answered_;
                for (const auto& more : take(engine_.on_probe(probe.serial, outcome, now())))
                    asked_.push_back(more);
            }
        }
        CHECK(answered_ > 5);
        return alarms_;
    }

  private:
    static config::Config config_of(std::uint32_t warn_days) {
        config::Config config = test::sample_config({{"pangyo"}, 1, 1});
        config.pools[0].health.warn_days = warn_days;
        return config;
    }
    [[nodiscard]] health::Now now() const { return {{1000s + time_}, {kWall + time_}}; }
    std::vector<health::ProbeRequest> take(const app::Actions& actions) {
        for (const app::Event& event : actions.events) {
            if (event.kind == app::EventKind::kAlarm && event.reason.starts_with("certificate"))
                alarms_.push_back(event.backend + ": " + event.reason);
        }
        return actions.probes;
    }

    std::chrono::nanoseconds time_{0};
    std::vector<std::string> alarms_;
    std::vector<health::ProbeRequest> asked_;
    int answered_ = 0;
    app::Engine engine_;
};

using Texts = std::vector<std::string>;
constexpr std::chrono::days kNine{9};

}  // namespace

TEST_CASE("a certificate that ends soon raises one alarm, its successor another") {
    Host host(14);
    CHECK(host.alarms(kWall + kNine + 1h) ==
          Texts{"10.0.0.11: certificate ends at 2027-01-24 09:00 UTC, in 9 days"});
    CHECK(host.alarms(kWall + kNine + 1h).empty());
    CHECK(host.alarms(kWall + kNine + 2h).size() == 1);
}

TEST_CASE("no alarm for a far end, a past one, or when none is wanted") {
    CHECK(Host(14).alarms(kWall + std::chrono::days(14) + 1min).empty());
    CHECK(Host(14).alarms(kWall + std::chrono::days(14) - 1min).size() == 1);
    CHECK(Host(14).alarms(kWall - 1s, Cause::kCertificateExpired).empty());
    CHECK(Host(0).alarms(kWall + 1h).empty());
}

// Answers the API's questions from the service, and carries operators' intents to it.
//
// Thread: the service's. The service must outlive it.
#pragma once

#include <memory>

#include "control/app/api_view.h"
#include "control/app/service.h"
#include "control/plan/predict.h"
#include "control/server/server.h"

namespace detour::app {

class ApiHandlers : public control::Handlers {
  public:
    explicit ApiHandlers(Service& service) : service_(service) {}

    control::Version version() override;
    control::Status status() override;
    std::vector<control::SiteStatus> sites() override;
    std::vector<control::PoolStatus> pools() override;
    std::vector<control::BackendStatus> backends() override;
    control::EventPage events(std::optional<std::uint64_t> since, std::size_t limit) override;
    std::vector<control::IncidentSummary> incidents() override;
    control::Outcome<control::Incident> incident(std::uint64_t number) override;
    control::ConfigInfo config() override;
    control::MetricsInput metrics() override;
    control::Task<control::DrainReply> drain(control::DrainRequest request) override;
    control::Task<control::UndrainReply> undrain(control::UndrainRequest request) override;
    control::Task<control::IntentReply> hold(control::HoldRequest request) override;
    control::Task<control::IntentReply> release(control::ReleaseRequest request) override;
    control::Task<control::IntentReply> weight(control::WeightRequest request) override;
    control::Task<control::ReloadReply> reload(control::ReloadRequest request) override;
    control::Task<control::IntentReply> confirm_config() override;
    control::Task<control::ConfigDiff> diff_config(control::ConfigDiffRequest request) override;
    control::Task<std::vector<control::FlowPlacement>> trace(
        std::span<const control::FlowQuery> flows) override;
    control::Task<control::PacketTrace> trace_packet(control::PacketTraceRequest request) override;
    control::Task<control::CapturePage> capture(control::CaptureRequest request) override;
    control::Task<control::CapturePage> read_capture(control::CaptureReadRequest request) override;
    control::Task<control::PlanFailReply> plan_fail(std::string domain) override;

  private:
    template <class View>
    auto view(View make);
    [[nodiscard]] ViewInput view_input(const Snapshot& snapshot) const;
    control::Task<control::IntentReply> simple_intent(failover::IntentRequest request, std::string effect);
    [[nodiscard]] control::Task<void> update_predictor();

    Service& service_;
    /// Tables of the plan that was last asked about: of 1,000 pools they take 0.1 s to build.
    std::optional<plan::Predictor> predictor_;
    api::Generation predicted_;
};

}  // namespace detour::app

#include "control/publish/request_queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "dataplane.pb.h"
#include "dataplane/api/wire.h"

namespace detour::publish {

namespace {

void refuse(QueuedRequest& request, api::Error error, std::vector<DueAnswer>& due) {
    if (!request.done) return;
    due.push_back({[done = std::exchange(request.done, nullptr), error = std::move(error)] {
        done(tl::unexpected<api::Error>(error));
    }});
}

/// Unanswered requests past their deadline are answered; `keep_place` leaves them in the row.
void expire_row(std::deque<QueuedRequest>& row, SteadyTime now, bool keep_place,
                std::vector<DueAnswer>& due) {
    const api::Error late{api::ErrorCode::kTimeout, "asking the fast path", "no reply in time"};
    for (auto& request : row) {
        if (request.done && request.deadline <= now) refuse(request, late, due);
    }
    if (!keep_place) std::erase_if(row, [](const QueuedRequest& request) { return !request.done; });
}

}  // namespace

void RequestQueue::push(QueuedRequest request, std::vector<DueAnswer>& due) {
    if (request.kind == RequestKind::kPlan) {
        const auto older = std::ranges::find(others_, RequestKind::kPlan, &QueuedRequest::kind);
        if (older != others_.end()) {
            refuse(*older, {api::ErrorCode::kOutdated, "publishing a plan", "a newer plan took its place"},
                   due);
            *older = std::move(request);
            return;
        }
    }
    if (size() >= limit_) {
        refuse(request,
               {api::ErrorCode::kLimit, "asking the fast path",
                fmt::format("{} requests are waiting already", limit_)},
               due);
        return;
    }
    (request.kind == RequestKind::kSwitch ? switches_ : others_).push_back(std::move(request));
}

bool RequestQueue::plan_in_flight() const {
    return std::ranges::find(in_flight_, RequestKind::kPlan, &QueuedRequest::kind) != in_flight_.end();
}

std::optional<std::string> RequestQueue::next_frame() {
    auto& row = switches_.empty() ? others_ : switches_;
    if (row.empty()) return std::nullopt;
    // One plan at a time: the next may be replaced while it waits.
    if (row.front().kind == RequestKind::kPlan && plan_in_flight()) return std::nullopt;
    in_flight_.push_back(std::move(row.front()));
    row.pop_front();
    return std::exchange(in_flight_.back().frame, std::string());
}

api::Result<void> RequestQueue::on_reply(wire::Reply reply, std::vector<DueAnswer>& due) {
    if (in_flight_.empty() || in_flight_.front().id != reply.id()) {
        const std::uint64_t expected = in_flight_.empty() ? 0 : in_flight_.front().id;
        return api::fail(api::ErrorCode::kInvalidArgument, "reading a reply of the fast path",
                         fmt::format("reply {} came, reply {} was due", reply.id(), expected));
    }
    QueuedRequest request = std::move(in_flight_.front());
    in_flight_.pop_front();
    if (!request.done) {
        ++late_;
        return {};
    }
    if (reply.has_failure()) {
        refuse(request, api::decode(reply.failure()), due);
        return {};
    }
    due.push_back({[done = std::move(request.done),
                    answer = std::make_shared<wire::Reply>(std::move(reply))] { done(std::move(*answer)); }});
    return {};
}

void RequestQueue::expire(SteadyTime now, std::vector<DueAnswer>& due) {
    expire_row(switches_, now, false, due);
    expire_row(others_, now, false, due);
    expire_row(in_flight_, now, true, due);
}

void RequestQueue::fail_all(const api::Error& error, std::vector<DueAnswer>& due) {
    for (auto* row : {&in_flight_, &switches_, &others_}) {
        for (auto& request : *row) refuse(request, error, due);
        row->clear();
    }
}

std::optional<SteadyTime> RequestQueue::next_deadline() const {
    std::optional<SteadyTime> earliest;
    for (const auto* row : {&in_flight_, &switches_, &others_}) {
        for (const auto& request : *row) {
            if (request.done && (!earliest || request.deadline < *earliest)) earliest = request.deadline;
        }
    }
    return earliest;
}

}  // namespace detour::publish

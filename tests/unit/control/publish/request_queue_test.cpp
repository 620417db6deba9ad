// The order and the bounds of what is asked of the fast path.
#include "control/publish/request_queue.h"

#include <doctest/doctest.h>

#include "dataplane.pb.h"

using namespace detour;
using namespace std::chrono_literals;
using publish::DueAnswer;
using publish::QueuedRequest;
using publish::RequestKind;
using publish::RequestQueue;

namespace {

const publish::SteadyTime kStart{};

struct Bench {
    RequestQueue queue{4};
    std::string answers;  ///< "1ok 2timeout "
    std::vector<DueAnswer> due;

    void push(std::uint64_t id, RequestKind kind, std::chrono::milliseconds timeout = 1s) {
        QueuedRequest request{id, kind, kStart + timeout, std::to_string(id), {}};
        request.done = [this, id](const api::Result<wire::Reply>& reply) {
            const char* text = "ok";
            if (!reply && reply.error().code == api::ErrorCode::kTimeout)
                text = "timeout";
            else if (!reply && reply.error().code == api::ErrorCode::kLimit)
                text = "limit";
            else if (!reply && reply.error().code == api::ErrorCode::kOutdated)
                text = "outdated";
            else if (!reply)
                text = "failed";
            answers += std::to_string(id) + text + " ";
        };
        queue.push(std::move(request), due);
    }
    std::string sent() {
        std::string all;
        while (auto frame = queue.next_frame()) all += *frame + " ";
        return all;
    }
    bool reply(std::uint64_t id) {
        wire::Reply reply;
        reply.set_id(id);
        return queue.on_reply(std::move(reply), due).has_value();
    }
    std::string take() {
        for (auto& answer : std::exchange(due, {})) answer.call();
        return std::exchange(answers, "");
    }
};

}  // namespace

TEST_CASE("switches overtake what waits and keep their order") {
    Bench bench;
    bench.push(1, RequestKind::kStats);
    bench.push(2, RequestKind::kPlan);
    bench.push(3, RequestKind::kSwitch);
    bench.push(4, RequestKind::kSwitch);
    CHECK(bench.sent() == "3 4 1 2 ");
    for (const std::uint64_t id : {3, 4, 1, 2}) CHECK(bench.reply(id));
    CHECK(bench.take() == "3ok 4ok 1ok 2ok ");
    CHECK(bench.queue.size() == 0);
}

TEST_CASE("one plan is in flight, one waits, a newer one takes its place") {
    Bench bench;
    bench.push(1, RequestKind::kPlan);
    CHECK(bench.sent() == "1 ");
    bench.push(2, RequestKind::kPlan);
    bench.push(3, RequestKind::kPlan);
    CHECK(bench.sent().empty());
    CHECK(bench.take() == "2outdated ");
    bench.push(4, RequestKind::kSwitch);
    CHECK(bench.sent() == "4 ");
    CHECK(bench.reply(1));
    CHECK(bench.sent() == "3 ");
    CHECK(bench.take() == "1ok ");
}

TEST_CASE("the queue is bounded, also by what is in flight") {
    Bench bench;
    for (std::uint64_t id = 1; id <= 5; ++id) bench.push(id, RequestKind::kSwitch);
    CHECK(bench.take() == "5limit ");
    CHECK(bench.sent() == "1 2 3 4 ");
    bench.push(6, RequestKind::kSwitch);
    CHECK(bench.take() == "6limit ");
    CHECK(bench.reply(1));
    bench.push(7, RequestKind::kSwitch);
    CHECK(bench.take() == "1ok ");
}

TEST_CASE("a late reply is thrown away and the order of the others holds") {
    Bench bench;
    bench.push(1, RequestKind::kStats, 10ms);
    bench.push(2, RequestKind::kSwitch, 20ms);
    CHECK(bench.queue.next_deadline() == kStart + 10ms);
    CHECK(bench.sent() == "2 1 ");
    bench.queue.expire(kStart + 9ms, bench.due);
    CHECK(bench.take().empty());
    bench.queue.expire(kStart + 10ms, bench.due);
    CHECK(bench.take() == "1timeout ");
    CHECK(bench.queue.next_deadline() == kStart + 20ms);
    CHECK(bench.reply(2));
    CHECK(bench.reply(1));
    CHECK(bench.take() == "2ok ");
    CHECK(bench.queue.late_replies() == 1);
}

TEST_CASE("a request that never was sent leaves the queue at its deadline") {
    Bench bench;
    bench.push(1, RequestKind::kPlan, 10ms);
    bench.queue.expire(kStart + 10ms, bench.due);
    CHECK(bench.take() == "1timeout ");
    CHECK(bench.sent().empty());
    CHECK(bench.queue.size() == 0);
}

TEST_CASE("a reply that is not due loses the stream") {
    Bench bench;
    CHECK_FALSE(bench.reply(1));
    bench.push(1, RequestKind::kStats);
    CHECK_FALSE(bench.reply(1));  // not sent yet
    bench.push(2, RequestKind::kStats);
    CHECK(bench.sent() == "1 2 ");
    CHECK_FALSE(bench.reply(2));
    bench.queue.fail_all({api::ErrorCode::kUnavailable, "", ""}, bench.due);
    CHECK(bench.take() == "1failed 2failed ");
    CHECK(bench.queue.size() == 0);
}

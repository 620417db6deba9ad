// The client of the control channel against a scripted fast path on a real Unix socket.
#include "control/publish/fast_path_client.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <boost/asio.hpp>
#include <filesystem>
#include <optional>

#include "dataplane.pb.h"
#include "dataplane/api/framing.h"

using namespace detour;
using namespace std::chrono_literals;
namespace asio = boost::asio;
using stream = asio::local::stream_protocol;

namespace {

/// Speaks the fast path's end by hand: the test decides about every byte.
class FakeFastPath {
  public:
    FakeFastPath(asio::io_context& io, const std::string& path)
        : io_(io), acceptor_(io, stream::endpoint(path)), peer_(io) {}

    void accept() {
        peer_ = stream::socket(io_);
        reader_ = {};
        bool done = false;
        acceptor_.async_accept(peer_, [&](const boost::system::error_code& ec) { done = !ec; });
        run_until([&] { return done; });
    }
    /// The next whole request.
    wire::Request request() {
        while (true) {
            auto payload = reader_.next().value();
            if (payload) {
                wire::Request parsed;
                REQUIRE(parsed.ParseFromString(*payload));
                return parsed;
            }
            std::array<char, 65536> buffer;
            std::optional<std::size_t> got;
            peer_.async_read_some(asio::buffer(buffer), [&](const auto&, std::size_t size) { got = size; });
            run_until([&] { return got.has_value(); });
            REQUIRE(*got > 0);
            reader_.feed({buffer.data(), *got});
        }
    }
    void send(const wire::Reply& reply) { send_bytes(api::frame(reply.SerializeAsString())); }
    void send_bytes(const std::string& bytes) { asio::write(peer_, asio::buffer(bytes)); }
    void close() { peer_.close(); }

    void run_until(const std::function<bool()>& done) {
        const auto limit = std::chrono::steady_clock::now() + 10s;
        while (!done() && std::chrono::steady_clock::now() < limit) io_.run_one_for(100ms);
        REQUIRE(done());
    }

  private:
    asio::io_context& io_;
    stream::acceptor acceptor_;
    stream::socket peer_;
    api::FrameReader reader_;
};

struct Bench {
    asio::io_context io;
    std::string path = "/tmp/detour-client-test." + std::to_string(getpid()) + "." + std::to_string(++count);
    static inline int count = 0;
    FakeFastPath fake{io, path};
    int ups = 0;
    std::vector<api::Error> downs;
    publish::FastPathClient client;

    explicit Bench(publish::FastPathOptions options = {})
        : client(io, with_path(std::move(options)),
                 {[this](const wire::HelloReply& hello, const wire::StateReply&) {
                      CHECK(hello.instance() == 42);
                      ++ups;
                  },
                  [this](const api::Error& why) { downs.push_back(why); }}) {}
    ~Bench() { std::filesystem::remove(path); }

    publish::FastPathOptions with_path(publish::FastPathOptions options) const {
        options.socket = path;
        options.version = "test";
        options.backoff_first = 1ms;
        options.backoff_cap = 5ms;
        return options;
    }
    /// Accepts a connection and answers its greeting.
    void greet() {
        const int before = ups;
        fake.accept();
        const auto hello = fake.request();
        CHECK(hello.hello().version() == "test");
        wire::Reply reply;
        reply.set_id(hello.id());
        reply.mutable_hello()->set_instance(42);
        fake.send(reply);
        const auto state = fake.request();
        CHECK(state.has_get_state());
        reply.set_id(state.id());
        reply.mutable_state();
        fake.send(reply);
        fake.run_until([&] { return ups == before + 1; });
        CHECK(client.up());
    }
    void wait_down(std::size_t number) {
        fake.run_until([&] { return downs.size() >= number; });
        CHECK_FALSE(client.up());
    }
};

wire::Reply reply_to(const wire::Request& request) {
    wire::Reply reply;
    reply.set_id(request.id());
    if (request.has_get_stats()) reply.mutable_stats()->set_rebuilds(7);
    if (request.has_set_switches()) reply.mutable_set()->set_switch_us(9);
    if (request.has_apply_plan()) {
        reply.mutable_applied()->set_generation(request.apply_plan().plan().generation());
    }
    return reply;
}

api::SiteSwitch site_switch(std::uint8_t site) {
    api::SiteSwitch value;
    value.site = api::SiteId(site);
    value.sequence = api::Sequence(1);
    return value;
}

using Code = api::ErrorCode;

}  // namespace

TEST_CASE("it greets, reads the state, and carries requests to their answers") {
    Bench bench;
    bench.client.start();
    bench.greet();
    std::string seen;
    wire::Plan plan;
    plan.set_generation(5);
    bench.client.get_stats(
        [&](const auto& reply) { seen += "stats" + std::to_string(reply->rebuilds()) + " "; });
    bench.client.apply_plan(std::move(plan),
                            [&](const auto& reply) { seen += "plan" + std::to_string(reply->generation()); });
    bench.client.set_switches({site_switch(3)}, {}, [&](const auto& reply) {
        seen += "set" + std::to_string(reply->switch_us()) + " ";
    });
    CHECK(seen.empty());
    const auto first = bench.fake.request();
    REQUIRE(first.has_set_switches());  // it overtook the two that were asked before
    CHECK(first.set_switches().sites(0).site() == 3);
    bench.fake.send(reply_to(first));
    bench.fake.send(reply_to(bench.fake.request()));
    bench.fake.send(reply_to(bench.fake.request()));
    bench.fake.run_until([&] { return seen == "set9 stats7 plan5"; });
    CHECK(bench.downs.empty());
}

TEST_CASE("an error of the fast path is the answer, in its words") {
    Bench bench;
    bench.client.start();
    bench.greet();
    std::optional<api::Error> error;
    bench.client.apply_plan({}, [&](const auto& reply) { error = reply.error(); });
    wire::Reply refusal;
    refusal.set_id(bench.fake.request().id());
    refusal.mutable_failure()->set_code(static_cast<std::uint32_t>(Code::kOutdated));
    refusal.mutable_failure()->set_what("generation 3 is below 5");
    bench.fake.send(refusal);
    bench.fake.run_until([&] { return error.has_value(); });
    CHECK(error->code == Code::kOutdated);
    CHECK(error->what == "generation 3 is below 5");
    CHECK(bench.client.up());
}

TEST_CASE("without a connection requests are refused, not kept") {
    Bench bench;
    std::optional<Code> code;
    bench.client.set_switches({site_switch(1)}, {}, [&](const auto& reply) { code = reply.error().code; });
    CHECK_FALSE(code);  // never from inside the call
    bench.fake.run_until([&] { return code.has_value(); });
    CHECK(code == Code::kUnavailable);
}

TEST_CASE("a late reply is thrown away, the connection stays") {
    Bench bench({.request_timeout = 30ms});
    bench.client.start();
    bench.greet();
    std::optional<Code> code;
    bench.client.get_stats([&](const auto& reply) { code = reply.error().code; });
    const auto asked = bench.fake.request();
    bench.fake.run_until([&] { return code.has_value(); });
    CHECK(code == Code::kTimeout);
    bench.fake.send(reply_to(asked));
    bench.fake.run_until([&] { return bench.client.late_replies() == 1; });
    bool answered = false;
    bench.client.get_stats([&](const auto& reply) { answered = reply.has_value(); });
    bench.fake.send(reply_to(bench.fake.request()));
    bench.fake.run_until([&] { return answered; });
    CHECK(bench.downs.empty());
}

TEST_CASE("what breaks the protocol ends the connection, who waited is told, and it comes back") {
    struct Row {
        const char* name;
        std::function<std::string(const wire::Request&)> answer;
        bool close;
    };
    const auto wrong_id = [](const wire::Request& request) {
        auto reply = reply_to(request);
        reply.set_id(request.id() + 1);
        return api::frame(reply.SerializeAsString());
    };
    const std::vector<Row> rows = {
        {"wrong id", wrong_id, false},
        {"oversize frame", [](const auto&) { return std::string("\xff\xff\xff\xff", 4); }, false},
        {"not a message", [](const auto&) { return api::frame("\xff\xff\xff"); }, false},
        {"closes within a frame", [](const auto&) { return std::string("\0\0\0\x10half", 8); }, true},
        {"closes", [](const auto&) { return std::string(); }, true},
    };
    for (const auto& row : rows) {
        CAPTURE(row.name);
        Bench bench;
        bench.client.start();
        bench.greet();
        std::vector<Code> codes;
        const auto note = [&](const auto& reply) {
            codes.push_back(reply ? Code::kSystem : reply.error().code);
        };
        bench.client.get_stats(note);
        bench.client.set_switches({site_switch(1)}, {}, note);
        bench.fake.send_bytes(row.answer(bench.fake.request()));
        if (row.close) bench.fake.close();
        bench.wait_down(1);
        CHECK(codes == std::vector<Code>{Code::kUnavailable, Code::kUnavailable});
        bench.greet();
        CHECK(bench.ups == 2);
    }
}

TEST_CASE("a reply to another kind of request is an error of that request") {
    Bench bench;
    bench.client.start();
    bench.greet();
    std::optional<Code> code;
    bench.client.get_stats([&](const auto& reply) { code = reply.error().code; });
    wire::Reply reply;
    reply.set_id(bench.fake.request().id());
    reply.mutable_set();
    bench.fake.send(reply);
    bench.fake.run_until([&] { return code.has_value(); });
    CHECK(code == Code::kInvalidArgument);
}

TEST_CASE("a fast path that refuses the greeting is tried again") {
    Bench bench;
    bench.client.start();
    for (std::size_t round = 1; round <= 3; ++round) {
        bench.fake.accept();
        wire::Reply refusal;
        refusal.set_id(bench.fake.request().id());
        refusal.mutable_failure()->set_what("another version");
        bench.fake.send(refusal);
        bench.wait_down(round);
        CHECK(bench.downs.back().what == "another version");
    }
    CHECK(bench.ups == 0);
}

TEST_CASE("a fast path that hangs is left and tried again") {
    Bench bench({.request_timeout = 20ms, .silence_timeout = 60ms});
    bench.client.start();
    bench.greet();
    std::optional<Code> code;
    bench.client.get_stats([&](const auto& reply) { code = reply.error().code; });
    bench.wait_down(1);
    CHECK(code == Code::kTimeout);
    CHECK(bench.downs[0].code == Code::kTimeout);
    bench.greet();
}

TEST_CASE("an idle connection is no hung one") {
    Bench bench({.silence_timeout = 40ms});
    bench.client.start();
    bench.greet();
    bench.io.run_for(150ms);
    CHECK(bench.downs.empty());
    bool answered = false;
    bench.client.get_stats([&](const auto& reply) { answered = reply.has_value(); });
    bench.fake.send(reply_to(bench.fake.request()));
    bench.fake.run_until([&] { return answered; });
}

TEST_CASE("a missing socket and a path that is too long are errors of the attempt") {
    for (const auto& path : {std::string("/tmp/detour-no-such-socket"), std::string(200, 'x')}) {
        asio::io_context io;
        std::vector<api::Error> downs;
        publish::FastPathOptions options;
        options.socket = path;
        options.backoff_first = options.backoff_cap = 1ms;
        publish::FastPathClient client(io, options, {{}, [&](const auto& why) { downs.push_back(why); }});
        client.start();
        const auto limit = std::chrono::steady_clock::now() + 5s;
        while (downs.size() < 3 && std::chrono::steady_clock::now() < limit) io.run_one_for(50ms);
        REQUIRE(downs.size() >= 3);
        CHECK(downs[0].to_string().find(path) != std::string::npos);
    }
}

TEST_CASE("nothing is called after stop") {
    Bench bench;
    bench.client.start();
    bench.greet();
    bool called = false;
    bench.client.get_stats([&](const auto&) { called = true; });
    bench.client.stop();
    bench.client.get_stats([&](const auto&) { called = true; });
    bench.io.run_for(50ms);
    CHECK_FALSE(called);
    CHECK(bench.downs.empty());
    CHECK(bench.io.stopped());  // nothing keeps the loop alive
}

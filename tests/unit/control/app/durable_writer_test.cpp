// Writes to disk off the loop: order, the newest wins, and everybody hears what came of it.
#include "control/app/durable_writer.h"

#include <doctest/doctest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <mutex>
#include <semaphore>
#include <vector>

using namespace detour;

namespace {

/// A disk that writes when the test lets it.
struct Disk {
    std::mutex mutex;
    std::vector<std::string> written;
    std::counting_semaphore<> turns{0};
    bool full = false;

    app::DurableWriter::Write writer() {
        return [this](const std::string&, const std::string& content) -> api::Result<void> {
            turns.acquire();
            const std::lock_guard lock(mutex);
            if (full) return api::fail(api::ErrorCode::kSystem, "writing", "full");
            written.push_back(content);
            return {};
        };
    }
};

}  // namespace

TEST_CASE("what comes during a write is written once, the newest, and all who wait are told") {
    boost::asio::io_context io;
    boost::asio::thread_pool pool(1);
    Disk disk;
    app::DurableWriter writer(io, pool, "x", disk.writer());
    std::string told;
    for (const char* content : {"a", "b", "c"}) {
        writer.write(content, [&told, content](const auto& result) { told += result ? content : "-"; });
    }
    CHECK(told.empty());
    CHECK_FALSE(writer.idle());
    disk.turns.release(2);
    io.run();
    CHECK(told == "abc");
    CHECK(disk.written == std::vector<std::string>{"a", "c"});
    CHECK(writer.idle());
    pool.join();
}

TEST_CASE("an error reaches who asked, and the next write is tried anew") {
    boost::asio::io_context io;
    boost::asio::thread_pool pool(1);
    Disk disk;
    disk.full = true;
    app::DurableWriter writer(io, pool, "x", disk.writer());
    std::string told;
    writer.write("a", [&](const auto& result) { told += result ? "ok" : result.error().what; });
    disk.turns.release(2);
    io.run();
    CHECK(told == "full");
    disk.full = false;
    writer.write("b", {});
    io.restart();
    io.run();
    CHECK(disk.written == std::vector<std::string>{"b"});
    pool.join();
}

TEST_CASE("nobody is told after destruction, what was under way is finished") {
    boost::asio::io_context io;
    boost::asio::thread_pool pool(1);
    Disk disk;
    bool told = false;
    {
        app::DurableWriter writer(io, pool, "x", disk.writer());
        writer.write("a", [&](const auto&) { told = true; });
    }
    disk.turns.release();
    io.run();
    pool.join();
    CHECK_FALSE(told);
    CHECK(disk.written == std::vector<std::string>{"a"});
}

#include "control/app/durable_writer.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <utility>
#include <vector>

namespace detour::app {

namespace asio = boost::asio;

struct DurableWriter::State : std::enable_shared_from_this<State> {
    State(asio::io_context& io_in, asio::thread_pool& pool_in, std::string path_in, Write write_in)
        : io(io_in), pool(pool_in), path(std::move(path_in)), write(std::move(write_in)) {}

    void begin() {
        busy = true;
        std::vector<Done> waiting = std::exchange(next_done, {});
        Content content = std::exchange(next, nullptr);
        // The loop must not end before the answer is in it.
        auto guard = asio::make_work_guard(io);
        asio::post(pool, [self = shared_from_this(), content = std::move(content),
                          waiting = std::move(waiting), guard = std::move(guard)]() mutable {
            auto result = self->write(self->path, content());
            auto& loop = self->io;
            asio::post(loop, [self = std::move(self), waiting = std::move(waiting),
                              result = std::move(result)] { self->finish(waiting, result); });
        });
    }

    void finish(const std::vector<Done>& waiting, const api::Result<void>& result) {
        busy = false;
        if (stopped) return;
        if (next) begin();
        for (const auto& done : waiting) {
            if (done) done(result);
        }
    }

    asio::io_context& io;
    asio::thread_pool& pool;
    std::string path;
    Write write;
    Content next;
    std::vector<Done> next_done;
    bool busy = false;
    bool stopped = false;
};

DurableWriter::DurableWriter(asio::io_context& io, asio::thread_pool& pool, std::string path, Write write)
    : state_(std::make_shared<State>(io, pool, std::move(path), std::move(write))) {}

DurableWriter::~DurableWriter() {
    state_->stopped = true;
}

void DurableWriter::write(std::string content, Done done) {
    write([content = std::move(content)] { return content; }, std::move(done));
}

void DurableWriter::write(Content content, Done done) {
    state_->next = std::move(content);
    state_->next_done.push_back(std::move(done));
    if (!state_->busy) state_->begin();
}

bool DurableWriter::idle() const {
    return !state_->busy;
}

}  // namespace detour::app

#include "dataplane/io/state_writer.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>

namespace detour::io {
namespace {
constexpr auto kRetryEvery = std::chrono::seconds(1);
}

StateWriter::StateWriter(const StateStore& store, std::vector<StateItem> items)
    : store_(store), items_(std::move(items)), marked_(items_.size()), thread_([this] { run(); }) {}

StateWriter::~StateWriter() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    changed_.notify_one();
    thread_.join();
}

void StateWriter::mark(std::size_t item) {
    {
        const std::lock_guard lock(mutex_);
        marked_[item] = true;
    }
    changed_.notify_one();
}

void StateWriter::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] {
            return ending_ || std::find(marked_.begin(), marked_.end(), true) != marked_.end();
        });
        const auto next = std::find(marked_.begin(), marked_.end(), true);
        if (next == marked_.end()) return;
        *next = false;
        const auto item = static_cast<std::size_t>(next - marked_.begin());
        lock.unlock();
        const bool written = write(item);
        lock.lock();
        if (written) continue;
        if (ending_) return;
        marked_[item] = true;
        changed_.wait_for(lock, kRetryEvery, [this] { return ending_; });
    }
}

bool StateWriter::write(std::size_t item) {
    auto saved = store_.save(items_[item].name, items_[item].payload());
    // Said once per outage, not once a second.
    if (!saved && !failing_)
        spdlog::error("{}; forwarding goes on, tried again every second", saved.error().to_string());
    if (saved && failing_) spdlog::info("the state is on disk again");
    failing_ = !saved;
    return saved.has_value();
}

}  // namespace detour::io

// Writes state files on a thread of its own, so that neither a switch nor a plan waits for a disk.
//
// mark() says that an item has changed; the thread asks the item for its bytes and saves them. Marks that
// come while one is being written are one more write. A save that fails is logged and tried again, once a
// second, until it works.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/io/state_store.h"

namespace detour::io {

struct StateItem {
    std::string name;                      ///< file in the store
    std::function<std::string()> payload;  ///< called on the writer's thread
};

class StateWriter {
  public:
    StateWriter(const StateStore& store, std::vector<StateItem> items);
    /// Writes what is marked, then ends the thread.
    ~StateWriter();
    StateWriter(const StateWriter&) = delete;
    StateWriter& operator=(const StateWriter&) = delete;

    /// Any thread; never blocks on the disk.
    void mark(std::size_t item);

  private:
    void run();
    [[nodiscard]] bool write(std::size_t item);

    const StateStore& store_;
    std::vector<StateItem> items_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<bool> marked_;  // guarded by mutex_
    bool ending_ = false;       // guarded by mutex_
    bool failing_ = false;      // writer's thread only
    std::thread thread_;
};

}  // namespace detour::io

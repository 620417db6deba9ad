// Makes warm and cold sites ready when they are needed: runs each one's hook once for each time of need.
//
// Decides nothing about traffic: that follows the backends' probes, before, while and after a hook runs. The
// need is over, and the hook would run again, when the site was not needed for kNeedEnds. What has been run
// is on disk before it is run, so that a restart does not run it again.
//
// Thread: the io_context's. `writer` must outlive it, and `tell` is not called after destruction.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/model.h"
#include "control/app/engine.h"
#include "control/app/hook.h"

namespace detour::app {

inline constexpr std::chrono::minutes kNeedEnds{10};
inline constexpr std::chrono::seconds kSureAfter{30};

class Activations {
  public:
    struct Shell {
        /// An event about a site.
        std::function<void(EventKind kind, const std::string& site, const std::string& text)> tell;
        /// Writes the file and calls back, whatever came of it.
        std::function<void(std::string content, std::function<void()> written)> write;
        std::function<std::shared_ptr<Hook>(HookOrder order, HookDone done)> run;
    };

    /// `stored`: the file's content, empty when there is none. Lines that make no sense are left out.
    Activations(Shell shell, std::string_view stored, health::Now now);
    ~Activations();
    Activations(const Activations&) = delete;
    Activations& operator=(const Activations&) = delete;

    /// Call it often: some times a second.
    void update(const config::Config& config, const Needs& needs, health::Now now);
    /// What is kept on disk: a line for each site, its name, "running" or "done".
    [[nodiscard]] std::string stored() const;

  private:
    struct Active {
        health::Monotonic needed;  ///< the last time
        bool running = false;
        std::shared_ptr<Hook> hook;
    };
    void begin(const config::Config& config, const config::Site& site);
    void on_done(const std::string& site, const HookResult& result);
    void save(std::function<void()> written);

    Shell shell_;
    std::map<std::string, Active> active_;
    health::Now now_;
    std::optional<health::Monotonic> static_since_;
    std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace detour::app

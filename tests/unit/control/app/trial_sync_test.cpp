// A power cut after an answer takes nothing back: what a trial writes and removes is on disk by then.
//
// This program's own fsync() stands before the C library's: it notes which files were synced and what was
// there at that moment, or fails as a worn disk does.
#include <doctest/doctest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include "control/app/config_trial.h"
#include "control/app/durable_file.h"

using namespace detour;
namespace fs = std::filesystem;

namespace {

struct Synced {
    std::string path;
    bool trial = false;  ///< the trial's name was there
};

/// Notes what this thread syncs, while it lives.
class Watch {
  public:
    explicit Watch(std::string state_dir) : state_dir_(std::move(state_dir)) { watching = this; }
    ~Watch() { watching = nullptr; }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    int sync(int fd) {
        std::array<char, 4096> name{};
        const ssize_t length =
            ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), name.data(), name.size());
        REQUIRE(length > 0);
        const std::string path(name.data(), static_cast<std::size_t>(length));
        synced.push_back({path, fs::exists(state_dir_ + "/config-trial")});
        if (path != fails) return static_cast<int>(::syscall(SYS_fsync, fd));
        errno = EIO;
        return -1;
    }
    [[nodiscard]] bool saw(const std::string& path) const {
        return std::ranges::any_of(synced, [&](const Synced& one) { return one.path == path; });
    }

    std::vector<Synced> synced;
    std::string fails;
    static thread_local Watch* watching;

  private:
    std::string state_dir_;
};
thread_local Watch* Watch::watching = nullptr;

/// A state folder with a trial in it.
struct Trial {
    std::string folder = "/tmp/detour-trial-sync-test." + std::to_string(::getpid());
    app::Documents before{{"detour.toml", "a = 1\n"}, {"pools.d/talk.toml", "b = 2\n"}};
    Trial() { fs::create_directories(folder); }
    ~Trial() { fs::remove_all(folder); }
    [[nodiscard]] api::Result<void> begin() const { return app::begin_trial(folder, before, {1, {}, false}); }
};

}  // namespace

extern "C" int fsync(int fd) {
    if (Watch::watching != nullptr) return Watch::watching->sync(fd);
    return static_cast<int>(::syscall(SYS_fsync, fd));
}

TEST_CASE("the end of a trial is on disk before it is said") {
    const Trial trial;
    REQUIRE(trial.begin());
    Watch watch(trial.folder);
    SUBCASE("its name is gone, then the folder is synced") {
        REQUIRE(app::end_trial(trial.folder));
        REQUIRE_FALSE(watch.synced.empty());
        CHECK(watch.synced.back().path == trial.folder);
        CHECK_FALSE(watch.synced.back().trial);
        CHECK_FALSE(fs::exists(app::config_before(trial.folder)));
    }
    SUBCASE("a folder that can't be synced: not confirmed, and what ran before is still there") {
        watch.fails = trial.folder;
        const auto ended = app::end_trial(trial.folder);
        REQUIRE_FALSE(ended);
        CHECK(ended.error().code == api::ErrorCode::kSystem);
        CHECK(ended.error().to_string().find("syncing " + trial.folder) != std::string::npos);
        CHECK(app::read_config_text(app::config_before(trial.folder)).size() == 2);
    }
    SUBCASE("none there: the folder is synced all the same, since a try before may have failed") {
        REQUIRE(app::end_trial(trial.folder));
        watch.synced.clear();
        REQUIRE(app::end_trial(trial.folder));
        CHECK(watch.saw(trial.folder));
    }
}

TEST_CASE("what ran before is on disk, with the names of its folders, before the trial is") {
    const Trial trial;
    Watch watch(trial.folder);
    REQUIRE(trial.begin());
    const std::string before = app::config_before(trial.folder);
    for (const char* name : {"", "/pools.d", "/detour.toml.tmp", "/pools.d/talk.toml.tmp"}) {
        CAPTURE(name);
        CHECK(watch.saw(before + name));
    }
    for (const Synced& one : watch.synced) {
        const bool last = &one == &watch.synced.back();
        CHECK(one.trial == last);  // the folder, with the trial's new name
    }
    SUBCASE("a folder that can't be synced: no trial begins") {
        REQUIRE(app::end_trial(trial.folder));
        watch.fails = before;
        CHECK_FALSE(trial.begin());
        CHECK_FALSE(fs::exists(trial.folder + "/config-trial"));
    }
}

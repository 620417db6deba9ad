#include <doctest/doctest.h>
#include <fmt/format.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <numeric>

#include "control/api/json.h"
#include "control/app/event_log.h"

using namespace detour::control;
namespace fs = std::filesystem;

namespace {

class Folder {
  public:
    Folder() {
        std::string name = fs::temp_directory_path() / "detour-events-XXXXXX";
        path_ = ::mkdtemp(name.data());
    }
    ~Folder() { fs::remove_all(path_); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    std::string path_;
};

EventLog opened(EventLogOptions options) {
    auto log = EventLog::open(std::move(options));
    REQUIRE(log.has_value());
    return std::move(*log);
}

void append(EventLog& log, int count) {
    for (int i = 0; i < count; ++i) log.append({.kind = "verdict", .text = fmt::format("event {}", i)});
}

std::vector<std::uint64_t> sequences(const EventPage& page) {
    std::vector<std::uint64_t> result;
    for (const Event& event : page.events) result.push_back(event.sequence);
    return result;
}

using Sequences = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("pages: the newest without since, the next ones with it, from the ring alone") {
    EventLog log = opened({.ring = 4});
    CHECK(log.page(std::nullopt, 10).events.empty());
    CHECK(log.page(0, 10).first == 0);
    append(log, 6);
    CHECK(log.last() == 6);
    CHECK(log.page(std::nullopt, 2).first == 3);
    CHECK(sequences(log.page(std::nullopt, 2)) == Sequences{5, 6});
    CHECK(sequences(log.page(std::nullopt, 10)) == Sequences{3, 4, 5, 6});
    CHECK(sequences(log.page(0, 2)) == Sequences{3, 4});
    CHECK(sequences(log.page(4, 10)) == Sequences{5, 6});
    CHECK(sequences(log.page(6, 10)).empty());
    // A follower of a log that was lost is shown what there is.
    CHECK(sequences(log.page(1000, 2)) == Sequences{3, 4});
}

TEST_CASE("sequences and events go on after a restart") {
    const Folder folder;
    {
        EventLog log = opened({.folder = folder.path()});
        append(log, 3);
    }
    EventLog log = opened({.folder = folder.path()});
    CHECK(log.last() == 3);
    CHECK(log.page(std::nullopt, 10).events.at(2).text == "event 2");
    append(log, 1);
    CHECK(sequences(log.page(0, 10)) == Sequences{1, 2, 3, 4});
}

TEST_CASE("files are bounded in size and number, and read back in order") {
    const Folder folder;
    const EventLogOptions options{.folder = folder.path(), .ring = 1000, .file_bytes = 2000, .files = 3};
    {
        EventLog log = opened(options);
        append(log, 200);
        log.flush();
        CHECK(log.not_written() == 0);
    }
    std::size_t files = 0;
    for (const auto& entry : fs::directory_iterator(folder.path())) {
        ++files;
        CHECK(entry.file_size() <= 2000);
    }
    CHECK(files == 3);
    const EventLog log = opened(options);
    const Sequences kept = sequences(log.page(0, 1000));
    REQUIRE(kept.size() > 20);
    Sequences expected(kept.size());
    std::iota(expected.begin(), expected.end(), 201 - kept.size());
    CHECK(kept == expected);
}

TEST_CASE("a torn line and garbage cost themselves alone") {
    const Folder folder;
    {
        EventLog log = opened({.folder = folder.path()});
        append(log, 2);
    }
    std::ofstream(folder.path() + "/events.ndjson", std::ios::app) << "garbage\n{\"sequence\":3,\"ti";
    {
        EventLog log = opened({.folder = folder.path()});
        CHECK(sequences(log.page(0, 10)) == Sequences{1, 2});
        append(log, 1);
    }
    const EventLog log = opened({.folder = folder.path()});
    CHECK(sequences(log.page(0, 10)) == Sequences{1, 2, 3});
}

TEST_CASE("a disk that takes nothing loses lines of the file, not of memory, and they are counted") {
    const Folder folder;
    EventLog log = opened({.folder = folder.path(), .file_bytes = 300, .files = 2});
    fs::remove_all(folder.path());  // the next rotation can't open its file
    append(log, 20);
    log.flush();
    CHECK(log.page(0, 100).events.size() == 20);
    CHECK(log.not_written() > 0);
}

TEST_CASE("a folder that can't be made is an error with its name") {
    const auto log = EventLog::open({.folder = "/proc/detour-events"});
    REQUIRE(!log);
    CHECK(log.error().what.find("/proc/detour-events") != std::string::npos);
}

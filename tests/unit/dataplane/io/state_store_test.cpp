#include "dataplane/io/state_store.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>

#include "dataplane/io/state_writer.h"

namespace detour::io {
namespace {

namespace fs = std::filesystem;

// A folder of its own, gone afterwards.
struct Folder {
    fs::path path = fs::temp_directory_path() / ("detour-state-" + std::to_string(::getpid()));
    Folder() { fs::remove_all(path); }
    ~Folder() { fs::remove_all(path); }
};

void write_file(const fs::path& path, const std::string& bytes) {
    std::ofstream out(path, std::ios::binary);
    out << bytes;
}

TEST_CASE("what is sealed unseals to the same bytes") {
    for (const std::size_t size : {0U, 1U, 7U, 8U, 9U, 4096U}) {
        std::string payload(size, '\0');
        for (std::size_t i = 0; i < size; ++i) payload[i] = static_cast<char>(i * 7);
        CHECK(unseal(seal(payload)).value() == payload);
    }
}

TEST_CASE("a file cut at any byte, grown by one, or with any bit turned is no state") {
    const std::string sealed = seal("the last plan");
    for (std::size_t length = 0; length < sealed.size(); ++length) {
        CAPTURE(length);
        CHECK_FALSE(unseal(sealed.substr(0, length)).has_value());
    }
    CHECK_FALSE(unseal(sealed + "x").has_value());
    for (std::size_t bit = 0; bit < sealed.size() * 8; ++bit) {
        CAPTURE(bit);
        std::string turned = sealed;
        turned[bit / 8] = static_cast<char>(turned[bit / 8] ^ (1 << (bit % 8)));
        CHECK_FALSE(unseal(turned).has_value());
    }
}

TEST_CASE("a store finds what another saved, and absence is no error") {
    const Folder folder;
    {
        auto store = StateStore::open(folder.path);
        REQUIRE(store.has_value());
        CHECK_FALSE(store->load("plan.state").value().has_value());
        REQUIRE(store->save("plan.state", "one").has_value());
        REQUIRE(store->save("plan.state", "two").has_value());
    }
    auto store = StateStore::open(folder.path);
    REQUIRE(store.has_value());
    CHECK(store->load("plan.state").value().value_or("absent") == "two");
}

TEST_CASE("a corrupt file is set aside, said, and absent from then on") {
    const Folder folder;
    auto store = StateStore::open(folder.path);
    REQUIRE(store.has_value());
    const std::string sealed = seal("plan");
    for (std::size_t length = 0; length < sealed.size(); ++length) {
        CAPTURE(length);
        write_file(folder.path / "plan.state", sealed.substr(0, length));
        const auto loaded = store->load("plan.state");
        REQUIRE_FALSE(loaded.has_value());
        CHECK(loaded.error().what.find("plan.state.corrupt") != std::string::npos);
        CHECK(fs::file_size(folder.path / "plan.state.corrupt") == length);
        CHECK_FALSE(store->load("plan.state").value().has_value());
    }
}

TEST_CASE("a write that was cut off leaves the old file in force") {
    const Folder folder;
    auto store = StateStore::open(folder.path);
    REQUIRE(store.has_value());
    REQUIRE(store->save("plan.state", "old").has_value());
    write_file(folder.path / "plan.state.new", seal("new").substr(0, 11));
    CHECK(store->load("plan.state").value().value_or("absent") == "old");
}

TEST_CASE("a folder belongs to one process at a time") {
    const Folder folder;
    auto first = StateStore::open(folder.path);
    REQUIRE(first.has_value());
    const auto second = StateStore::open(folder.path);
    REQUIRE_FALSE(second.has_value());
    CHECK(second.error().code == api::ErrorCode::kRefused);
}

TEST_CASE("the writer's end leaves the last marked content on disk") {
    const Folder folder;
    auto store = StateStore::open(folder.path);
    REQUIRE(store.has_value());
    std::mutex mutex;
    std::string content;
    {
        StateWriter writer(*store, {{"a",
                                     [&] {
                                         const std::lock_guard lock(mutex);
                                         return content;
                                     }},
                                    {"b", [] { return std::string("never marked"); }}});
        for (int i = 0; i < 50; ++i) {
            {
                const std::lock_guard lock(mutex);
                content = std::to_string(i);
            }
            writer.mark(0);
        }
    }
    CHECK(store->load("a").value().value_or("absent") == "49");
    CHECK_FALSE(store->load("b").value().has_value());
}

}  // namespace
}  // namespace detour::io

#include "dataplane/io/huge_pages.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <optional>

#include "dataplane/io/descriptor.h"

namespace detour::io {
namespace {

constexpr std::size_t kPageBytes = 2U << 20U;
constexpr auto kFolder = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
constexpr auto kBootId = "/proc/sys/kernel/random/boot_id";

std::optional<long> read_number(const std::string& path) {
    std::ifstream in(path);
    long value = 0;
    if (in >> value) return value;
    return std::nullopt;
}

void write_number(const std::string& path, long value) {
    std::ofstream out(path);
    out << value << '\n';
}

std::string read_word(const std::string& path) {
    std::ifstream in(path);
    std::string word;
    in >> word;
    return word;
}

// Two fast paths on one machine must not both count the same free pages.
Descriptor lock_count() {
    Descriptor lock(::open("/proc/sys/vm/nr_hugepages", O_RDONLY | O_CLOEXEC));
    if (lock.valid()) ::flock(lock.get(), LOCK_EX);
    return lock;
}

}  // namespace

HugePages::HugePages(std::string folder) : path_(std::move(folder) + "/hugepages") {
    std::ifstream in(path_);
    std::string boot;
    long added = 0;
    if (in >> boot >> added && boot == read_word(kBootId) && added > 0) added_ = added;
}

HugePages::~HugePages() {
    if (added_ > 0) {
        const Descriptor lock = lock_count();
        const std::string count = std::string(kFolder) + "nr_hugepages";
        const long now = read_number(count).value_or(0);
        write_number(count, now > added_ ? now - added_ : 0);
    }
    ::unlink(path_.c_str());
}

bool HugePages::provide(std::size_t bytes) {
    const long wanted = static_cast<long>((bytes + kPageBytes - 1) / kPageBytes);
    const Descriptor lock = lock_count();
    const std::string count = std::string(kFolder) + "nr_hugepages";
    const auto free = read_number(std::string(kFolder) + "free_hugepages");
    const auto total = read_number(count);
    if (!free || !total) return false;
    if (*free >= wanted) return true;
    write_number(count, *total + wanted - *free);
    const long got = read_number(count).value_or(*total) - *total;
    added_ += got > 0 ? got : 0;
    note();
    if (read_number(std::string(kFolder) + "free_hugepages").value_or(0) >= wanted) return true;
    if (got > 0) {
        write_number(count, *total);
        added_ -= got;
        note();
    }
    return false;
}

void HugePages::note() const {
    std::ofstream out(path_);
    out << read_word(kBootId) << ' ' << added_ << '\n';
}

}  // namespace detour::io

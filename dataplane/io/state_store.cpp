#include "dataplane/io/state_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <immintrin.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace detour::io {
namespace {

using api::ErrorCode;

constexpr std::string_view kMagic = "DTRSTATE";
constexpr std::uint32_t kVersion = 1;

struct Header {
    char magic[8];
    std::uint32_t version;
    std::uint32_t crc;  // of the header with this field 0, then of the payload
    std::uint64_t length;
};
static_assert(sizeof(Header) == 24);

std::uint32_t crc32c(std::uint32_t crc, std::string_view bytes) noexcept {
    std::uint64_t state = ~crc & 0xffffffffU;
    while (bytes.size() >= sizeof(std::uint64_t)) {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes.data(), sizeof word);
        state = _mm_crc32_u64(state, word);
        bytes.remove_prefix(sizeof word);
    }
    for (const char c : bytes) {
        state = _mm_crc32_u8(static_cast<std::uint32_t>(state), static_cast<std::uint8_t>(c));
    }
    return ~static_cast<std::uint32_t>(state);
}

std::uint32_t checksum(Header header, std::string_view payload) noexcept {
    header.crc = 0;
    const std::string_view bytes(reinterpret_cast<const char*>(&header), sizeof header);
    return crc32c(crc32c(0, bytes), payload);
}

tl::unexpected<api::Error> system_error(const std::string& doing) {
    return api::fail(ErrorCode::kSystem, doing, std::generic_category().message(errno));
}

api::Result<std::string> read_all(int fd, const std::string& path) {
    std::string bytes;
    char chunk[1 << 16];
    for (;;) {
        const ssize_t got = ::read(fd, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return system_error("reading " + path);
        if (got == 0) return bytes;
        bytes.append(chunk, static_cast<std::size_t>(got));
    }
}

api::Result<void> write_all(int fd, std::string_view bytes, const std::string& path) {
    while (!bytes.empty()) {
        const ssize_t put = ::write(fd, bytes.data(), bytes.size());
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return system_error("writing " + path);
        bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    if (::fsync(fd) != 0) return system_error("flushing " + path);
    return {};
}

}  // namespace

std::string seal(std::string_view payload) {
    Header header{};
    std::memcpy(header.magic, kMagic.data(), sizeof header.magic);
    header.version = kVersion;
    header.length = payload.size();
    header.crc = checksum(header, payload);
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    bytes.append(payload);
    return bytes;
}

api::Result<std::string> unseal(std::string_view bytes) {
    constexpr auto kDoing = "checking a state file";
    if (bytes.size() < sizeof(Header)) {
        return api::fail(ErrorCode::kInvalidArgument, kDoing,
                         fmt::format("{} bytes are no header", bytes.size()));
    }
    Header header{};
    std::memcpy(&header, bytes.data(), sizeof header);
    const std::string_view payload = bytes.substr(sizeof header);
    if (std::string_view(header.magic, sizeof header.magic) != kMagic) {
        return api::fail(ErrorCode::kInvalidArgument, kDoing, "it is no state file");
    }
    if (header.version != kVersion) {
        return api::fail(ErrorCode::kInvalidArgument, kDoing,
                         fmt::format("its version is {}, this program reads {}", header.version, kVersion));
    }
    if (header.length != payload.size()) {
        return api::fail(ErrorCode::kInvalidArgument, kDoing,
                         fmt::format("it holds {} bytes and says {}", payload.size(), header.length));
    }
    if (header.crc != checksum(header, payload)) {
        return api::fail(ErrorCode::kInvalidArgument, kDoing, "its checksum is wrong");
    }
    return std::string(payload);
}

api::Result<StateStore> StateStore::open(const std::string& folder) {
    const std::string doing = "opening the state folder " + folder;
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return api::fail(ErrorCode::kSystem, doing, error.message());
    // The state names every backend and the fleet seed.
    ::chmod(folder.c_str(), 0700);
    Descriptor lock(::open((folder + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!lock.valid()) return system_error(doing);
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) return system_error(doing);
        return api::fail(ErrorCode::kRefused, doing, "another detour-dataplane uses it");
    }
    return StateStore(folder, std::move(lock));
}

api::Result<std::optional<std::string>> StateStore::load(const std::string& name) const {
    const std::string path = folder_ + "/" + name;
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) {
        if (errno == ENOENT) return std::nullopt;
        return system_error("opening " + path);
    }
    auto bytes = read_all(file.get(), path);
    if (!bytes) return tl::unexpected(bytes.error());
    auto payload = unseal(*bytes);
    if (!payload) {
        set_aside(name);
        return api::fail(ErrorCode::kInvalidArgument, "reading " + path,
                         payload.error().what + "; kept as " + name + ".corrupt");
    }
    return *std::move(payload);
}

api::Result<void> StateStore::save(const std::string& name, std::string_view payload) const {
    const std::string path = folder_ + "/" + name;
    const std::string beside = path + ".new";
    {
        const Descriptor file(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        if (!file.valid()) return system_error("writing " + beside);
        if (auto written = write_all(file.get(), seal(payload), beside); !written) return written;
    }
    if (::rename(beside.c_str(), path.c_str()) != 0) return system_error("writing " + path);
    const Descriptor folder(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder.valid() || ::fsync(folder.get()) != 0) return system_error("flushing " + folder_);
    return {};
}

void StateStore::set_aside(const std::string& name) const {
    const std::string path = folder_ + "/" + name;
    ::rename(path.c_str(), (path + ".corrupt").c_str());
}

}  // namespace detour::io

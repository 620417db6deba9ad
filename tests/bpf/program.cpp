#include "tests/bpf/program.h"

#include <bpf/bpf.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <stdexcept>

namespace detour::bpf_tests {

namespace {

constexpr std::size_t kLargestFrame = 4096;

[[noreturn]] void refuse(const std::string& what) {
    throw std::runtime_error(what + ": " + std::strerror(errno));
}

}  // namespace

Program::Program(const std::string& object, const std::string& name)
    : object_(bpf_object__open_file(object.c_str(), nullptr)) {
    if (!object_ || bpf_object__load(object_.get()) != 0) refuse("loading " + object);
    const bpf_program* program = bpf_object__find_program_by_name(object_.get(), name.c_str());
    if (program == nullptr) refuse("finding " + name);
    fd_ = bpf_program__fd(program);
    is_xdp_ = bpf_program__type(program) == BPF_PROG_TYPE_XDP;
}

bool Program::takes(const Bytes& frame) const {
    if (frame.size() < 14) return false;
    const int type = frame[12] << 8 | frame[13];
    return is_xdp_ || frame.size() >= (type == 0x0800 ? 34U : type == 0x86dd ? 54U : 14U);
}

Ran Program::run(const Bytes& frame) const {
    std::array<std::uint8_t, kLargestFrame> out{};
    bpf_test_run_opts options;
    std::memset(&options, 0, sizeof(options));
    options.sz = sizeof(options);
    options.data_in = frame.data();
    options.data_size_in = static_cast<std::uint32_t>(frame.size());
    options.data_out = out.data();
    options.data_size_out = out.size();
    if (bpf_prog_test_run_opts(fd_, &options) != 0) refuse("running a program");
    return {options.retval, Bytes(out.begin(), out.begin() + options.data_size_out)};
}

int Program::map(const std::string& name) const {
    const int fd = bpf_object__find_map_fd_by_name(object_.get(), name.c_str());
    if (fd < 0) refuse("finding the map " + name);
    return fd;
}

void Program::put_bytes(const std::string& map_name, const void* key, const void* value) const {
    if (bpf_map_update_elem(map(map_name), key, value, BPF_ANY) != 0) refuse("writing " + map_name);
}

std::uint64_t Program::counter(const std::string& map_name, std::uint32_t index) const {
    std::vector<std::uint64_t> values(static_cast<std::size_t>(libbpf_num_possible_cpus()));
    if (bpf_map_lookup_elem(map(map_name), &index, values.data()) != 0) refuse("reading " + map_name);
    std::uint64_t sum = 0;
    for (const auto value : values) sum += value;
    return sum;
}

std::vector<std::uint64_t> Program::counters(const std::string& map_name, std::uint32_t size) const {
    std::vector<std::uint64_t> result;
    for (std::uint32_t i = 0; i < size; ++i) result.push_back(counter(map_name, i));
    return result;
}

std::uint64_t random_seed() {
    const char* given = std::getenv("DETOUR_SEED");
    const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::printf("DETOUR_SEED=%llu\n", static_cast<unsigned long long>(seed));
    return seed;
}

}  // namespace detour::bpf_tests

// A BPF program under test: frame in, verdict, frame and counters out (BPF_PROG_TEST_RUN, no interface
// needed).
//
// Objects come from the build tree; maps belong to the Program. One thread. Throws std::runtime_error when
// the kernel refuses something, which fails the test.
#pragma once

#include <bpf/libbpf.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/packets.h"

namespace detour::bpf_tests {

using support::Bytes;

struct Ran {
    std::uint32_t verdict = 0;
    Bytes frame;
};

class Program {
  public:
    /// Loads all programs of the object file; `name` is the one that run() runs.
    Program(const std::string& object, const std::string& name);

    /// `frame` must be one that takes().
    [[nodiscard]] Ran run(const Bytes& frame) const;
    /// The kernel runs tc programs only on frames that hold the IP header of their EtherType, and none below
    /// 14 bytes.
    [[nodiscard]] bool takes(const Bytes& frame) const;
    [[nodiscard]] int map(const std::string& name) const;
    template <class Key, class Value>
    void put(const std::string& map_name, const Key& key, const Value& value) const {
        put_bytes(map_name, &key, &value);
    }
    /// Sum over the CPUs.
    [[nodiscard]] std::uint64_t counter(const std::string& map_name, std::uint32_t index) const;
    [[nodiscard]] std::vector<std::uint64_t> counters(const std::string& map_name, std::uint32_t size) const;
    [[nodiscard]] int fd() const noexcept { return fd_; }

  private:
    void put_bytes(const std::string& map_name, const void* key, const void* value) const;

    struct Close {
        void operator()(bpf_object* object) const noexcept { bpf_object__close(object); }
    };
    std::unique_ptr<bpf_object, Close> object_;
    int fd_ = -1;
    bool is_xdp_ = false;
};

/// A printed seed, so that a failure can be run again: DETOUR_SEED, or another one each time.
[[nodiscard]] std::uint64_t random_seed();

}  // namespace detour::bpf_tests

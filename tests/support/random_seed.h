// The seed of a randomized test: new in every run, printed once, repeated by DETOUR_TEST_SEED=N.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace detour::support {

[[nodiscard]] inline std::uint64_t random_seed() {
    static const std::uint64_t seed = [] {
        const char* fixed = std::getenv("DETOUR_TEST_SEED");
        const std::uint64_t value =
            fixed != nullptr ? std::strtoull(fixed, nullptr, 0) : std::random_device{}();
        std::printf("DETOUR_TEST_SEED=%llu\n", static_cast<unsigned long long>(value));
        return value;
    }();
    return seed;
}

}  // namespace detour::support

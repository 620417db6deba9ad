// What the comparisons with the models share: how many packets, and the threads that they are spread over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "tests/support/random_seed.h"

namespace detour::support {

/// Ten million, or what DETOUR_MODEL_PACKETS says.
[[nodiscard]] inline std::size_t model_packets() {
    const char* text = std::getenv("DETOUR_MODEL_PACKETS");
    return text != nullptr ? std::strtoull(text, nullptr, 0) : 10'000'000;
}

/// A `Part(seed, its number)` in each of two threads, whose run() is given half of the packets. Returns when
/// both are done.
template <class Part>
[[nodiscard]] std::vector<std::unique_ptr<Part>> run_in_two(std::size_t packets) {
    std::mt19937_64 random(random_seed());
    std::vector<std::unique_ptr<Part>> parts;
    std::vector<std::jthread> threads;
    for (std::uint32_t i = 0; i < 2; ++i) {
        parts.push_back(std::make_unique<Part>(random(), i));
        threads.emplace_back([part = parts.back().get(), packets] { part->run(packets / 2); });
    }
    threads.clear();  // joins them
    return parts;
}

}  // namespace detour::support

// The list that every reader and check of this folder adds its findings to.
//
// Bounded: after kMaxMistakes nothing more is kept, so that a hostile file can't fill memory. No threading.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "config/load.h"

namespace detour::config {

inline constexpr std::size_t kMaxMistakes = 50;

class Mistakes {
  public:
    void add(Origin origin, std::string found, std::string expected);
    [[nodiscard]] bool empty() const noexcept { return list_.empty(); }
    [[nodiscard]] bool full() const noexcept { return list_.size() >= kMaxMistakes; }
    /// Those of one file stand together, in the order of the file; files in the order first met.
    [[nodiscard]] std::vector<Mistake> take() &&;

  private:
    std::vector<Mistake> list_;
};

}  // namespace detour::config

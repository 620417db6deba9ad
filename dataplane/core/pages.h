// A zeroed block of memory from the kernel, asked to be of 2 MiB pages.
//
// For tables of many MiB that are read at random. Owned, movable, freed in the destructor; no threading of
// its own.
#pragma once

#include <cstddef>

namespace detour::core {

class Pages {
  public:
    /// `size` in bytes, above 0. Throws std::bad_alloc.
    explicit Pages(std::size_t size);
    ~Pages();
    Pages(Pages&& other) noexcept;
    Pages& operator=(Pages&& other) noexcept;
    Pages(const Pages&) = delete;
    Pages& operator=(const Pages&) = delete;

    [[nodiscard]] void* get() const noexcept { return base_; }
    /// As asked for.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

  private:
    void* base_ = nullptr;
    std::size_t size_ = 0;
    std::size_t mapped_ = 0;
};

}  // namespace detour::core

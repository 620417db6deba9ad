#include "dataplane/core/pages.h"

#include <sys/mman.h>

#include <new>
#include <utility>

namespace detour::core {
namespace {
constexpr std::size_t kHugePage = 2U << 20U;
}

Pages::Pages(std::size_t size) : size_(size) {
    const bool large = size >= kHugePage;
    mapped_ = (size + kHugePage - 1) / kHugePage * kHugePage;
    constexpr int kProtection = PROT_READ | PROT_WRITE;
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS;
    base_ = large ? mmap(nullptr, mapped_, kProtection, kFlags | MAP_HUGETLB, -1, 0) : MAP_FAILED;
    if (base_ == MAP_FAILED) base_ = mmap(nullptr, mapped_, kProtection, kFlags, -1, 0);
    if (base_ == MAP_FAILED) throw std::bad_alloc();
    if (large) madvise(base_, mapped_, MADV_HUGEPAGE);
}

Pages::~Pages() {
    if (base_ != nullptr) munmap(base_, mapped_);
}

Pages::Pages(Pages&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)), size_(other.size_), mapped_(other.mapped_) {}

Pages& Pages::operator=(Pages&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(size_, other.size_);
    std::swap(mapped_, other.mapped_);
    return *this;
}

}  // namespace detour::core

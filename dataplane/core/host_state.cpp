#include "dataplane/core/host_state.h"

#include <sys/mman.h>

#include <new>

namespace detour::core {
namespace {

constexpr std::size_t kPoolWords = api::kMaxPools * 256;
constexpr std::size_t kPoolBytes = kPoolWords * sizeof(std::atomic<std::uint64_t>);

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(sizeof(std::atomic<std::uint64_t>) == sizeof(std::uint64_t));

}  // namespace

HostState::HostState() {
    // Anonymous pages are zero and cost no memory until they are written, which is what "all admitted" needs.
    void* pages = mmap(nullptr, kPoolBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    pools_.reset(static_cast<std::atomic<std::uint64_t>*>(pages));
}

void HostState::FreePages::operator()(std::atomic<std::uint64_t>* words) const noexcept {
    munmap(words, kPoolBytes);
}

}  // namespace detour::core

#include "tests/bench/instructions.h"

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace detour::bench {

InstructionCounter::InstructionCounter() {
    perf_event_attr attributes{};
    attributes.size = sizeof attributes;
    attributes.type = PERF_TYPE_HARDWARE;
    attributes.config = PERF_COUNT_HW_INSTRUCTIONS;
    attributes.exclude_kernel = 1;
    attributes.exclude_hv = 1;
    event_ = io::Descriptor(static_cast<int>(::syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0UL)));
    if (!event_.valid()) return;
    // Some virtual machines open the counter and never count.
    works_ = true;
    works_ = read() != 0;
}

std::uint64_t InstructionCounter::read() const noexcept {
    std::uint64_t value = 0;
    if (!works_ || ::read(event_.get(), &value, sizeof value) != sizeof value) return 0;
    return value;
}

}  // namespace detour::bench

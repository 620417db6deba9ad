// Instructions that this thread retires in user mode, where the machine lets us count them
// (perf_event_open(2)). One thread.
#pragma once

#include <cstdint>

#include "dataplane/io/descriptor.h"

namespace detour::bench {

class InstructionCounter {
  public:
    InstructionCounter();
    [[nodiscard]] bool works() const noexcept { return works_; }
    /// Since construction; 0 when it does not work.
    [[nodiscard]] std::uint64_t read() const noexcept;

  private:
    io::Descriptor event_;
    bool works_ = false;
};

}  // namespace detour::bench

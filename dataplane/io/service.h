// detour-dataplane's life: everything in the order in which it must start and stop.
//
// State from disk, guards up, EAL, ports, tables restored, workers, control channel. The parts are members in
// that order, so that they end in the reverse. Main thread only.
#pragma once

#include <memory>
#include <optional>

#include "dataplane/api/result.h"
#include "dataplane/io/arguments.h"

namespace detour::io {

class Service {
  public:
    /// Forwards when it returns. Errors of every part, in an operator's words.
    [[nodiscard]] static api::Result<std::unique_ptr<Service>> start(Arguments arguments);
    /// Stops; the ports are closed, the guards stay so that no VIP packet is refused meanwhile.
    ~Service();
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;

    /// One line about what runs now.
    [[nodiscard]] std::string describe() const;

  private:
    struct Parts;
    explicit Service(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
};

}  // namespace detour::io

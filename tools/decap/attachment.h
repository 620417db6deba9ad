// detour-decap on one interface: the loaded object, its maps, and the programs it put in place.
//
// One owner, one thread. The destructor takes the programs off again; a killed process leaves them behind,
// working, and the next open() on the interface replaces them.
#pragma once

#include <memory>
#include <span>

#include "dataplane/api/result.h"
#include "dataplane/api/types.h"
#include "tools/decap/settings.h"

namespace detour::decap {

class Attachment {
  public:
    /// Loads the programs, fills the maps, attaches what `plan` asks for, and removes programs of ours that a
    /// run with other options left on this interface. `locals`: addresses that tunnels may end at. Error
    /// kNotFound: no such interface; kRefused: another's program holds the place (the text names it), or no
    /// permission; kLimit: too many addresses; kSystem.
    [[nodiscard]] static Result<Attachment> open(const InterfacePlan& plan, const Settings& settings,
                                                 std::span<const api::IpAddress> locals);
    Attachment(Attachment&& other) noexcept;
    Attachment& operator=(Attachment&& other) noexcept;
    ~Attachment();

    /// Tunnels end at exactly these addresses from now on; new ones are added before old ones are removed.
    [[nodiscard]] Result<void> set_locals(std::span<const api::IpAddress> locals);

  private:
    struct State;
    explicit Attachment(std::unique_ptr<State> state) noexcept;
    std::unique_ptr<State> state_;
};

}  // namespace detour::decap

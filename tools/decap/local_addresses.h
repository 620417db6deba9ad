// The addresses of this host, and word of their changes (rtnetlink).
//
// Tunnels end at these. One owner, one thread.
#pragma once

#include <vector>

#include "dataplane/api/result.h"
#include "dataplane/api/types.h"
#include "tools/decap/kernel.h"

namespace detour::decap {

/// Every IPv4 and IPv6 address on every interface, sorted, each once. Error kSystem.
[[nodiscard]] Result<std::vector<api::IpAddress>> local_addresses();

class AddressWatch {
  public:
    /// Error kSystem.
    [[nodiscard]] static Result<AddressWatch> open();
    /// Readable when an address came or went.
    [[nodiscard]] int descriptor() const noexcept { return socket_.get(); }
    /// Reads what is waiting, so that descriptor() is quiet until the next change. Messages that were lost do
    /// not matter: the caller reads all addresses again.
    void drain() const noexcept;

  private:
    explicit AddressWatch(Descriptor socket) noexcept : socket_(std::move(socket)) {}
    Descriptor socket_;
};

}  // namespace detour::decap

// What the fast path must find again after a restart, on local disk.
//
// A folder with small sealed files: magic, version, length, CRC-32C, payload. Each is written beside, fsynced
// and renamed, then the folder is fsynced, so that a reader finds the old or the new one whole. A file that
// does not check is set aside as NAME.corrupt and counts as absent. The folder is locked: one process at a
// time. One thread at a time; the StateWriter's after start-up.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "dataplane/api/result.h"
#include "dataplane/io/descriptor.h"

namespace detour::io {

/// The bytes of a file that holds `payload`.
[[nodiscard]] std::string seal(std::string_view payload);
/// Error kInvalidArgument for anything that seal() did not make: cut, grown, altered, another version.
[[nodiscard]] api::Result<std::string> unseal(std::string_view bytes);

class StateStore {
  public:
    /// Makes the folder when it is missing, and locks it.
    /// Error kRefused when another process holds it, kSystem when it can't be used.
    [[nodiscard]] static api::Result<StateStore> open(const std::string& folder);

    /// Nullopt when there is no such file. Error kInvalidArgument when it was corrupt: it is set aside then.
    [[nodiscard]] api::Result<std::optional<std::string>> load(const std::string& name) const;
    /// Durable when it returns. Error kSystem; the old content is untouched then.
    [[nodiscard]] api::Result<void> save(const std::string& name, std::string_view payload) const;
    /// Renames NAME to NAME.corrupt, for a payload that unsealed and still made no sense.
    void set_aside(const std::string& name) const;

    [[nodiscard]] const std::string& folder() const noexcept { return folder_; }

  private:
    StateStore(std::string folder, Descriptor lock) : folder_(std::move(folder)), lock_(std::move(lock)) {}
    std::string folder_;
    Descriptor lock_;
};

}  // namespace detour::io

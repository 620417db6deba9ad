// The Unix socket's file: bound with its final mode, a stale one replaced, a live one left alone.
//
// Any thread, blocking for at most the connect to a local socket.
#pragma once

#include <string>

#include "dataplane/api/result.h"

namespace detour::control {

/// A listening, non-blocking stream socket at `path`, mode 0660; its folder is made when it is missing. It is
/// bound under a name of its own and renamed, so that nobody meets it half made. The caller owns the
/// descriptor. Errors: kInvalidArgument (path too long for a socket), kUnavailable (another process answers
/// there), kSystem.
[[nodiscard]] api::Result<int> listen_at(const std::string& path);

/// Removes `path` if it is still the socket that `descriptor` is bound to.
void remove_socket(const std::string& path, int descriptor) noexcept;

/// "root" or "uid 1000": who is at the other end.
[[nodiscard]] std::string peer_name(int descriptor);

}  // namespace detour::control

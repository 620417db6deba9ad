// Length-prefixed frames on a byte stream: 4 bytes big endian, then that many bytes.
//
// Pure; the socket is the caller's. Not thread safe: one reader per stream.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "dataplane/api/result.h"

namespace detour::api {

/// `payload` must be at most kMaxMessageBytes.
[[nodiscard]] std::string frame(std::string_view payload);

/// Collects bytes as they come and gives whole payloads out.
class FrameReader {
  public:
    /// Adds bytes from the stream.
    void feed(std::string_view bytes);
    /// The next whole payload; nullopt when more bytes are needed.
    /// Error kLimit when a length is above kMaxMessageBytes: the stream is lost then, close it.
    [[nodiscard]] Result<std::optional<std::string>> next();

  private:
    std::string buffer_;
    std::size_t start_ = 0;
};

}  // namespace detour::api

// Looks for a text in the body of an HTTP/1.1 answer: chunked, of a stated length, or up to the connection's
// end (RFC 9112, sections 6 and 7).
//
// Pure, any thread. At most kMaxBodyBytes of content are looked at; what a server sends is not trusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "control/health/http_head.h"

namespace detour::health {

inline constexpr std::size_t kMaxBodyBytes = 64U << 10U;
inline constexpr std::size_t kMaxChunkLine = 256;

class HttpBody {
  public:
    enum class State : std::uint8_t {
        kMore,
        kFound,
        kAbsent,  ///< the body ended, or is too long, without the text
        kBad,     ///< not chunks, or cut short
    };

    /// `wanted` is not empty.
    HttpBody(std::string wanted, const HttpFraming& framing);

    /// `bytes` as they came. After any state but kMore nothing more is taken.
    State feed(std::string_view bytes);
    /// The connection was closed.
    State end();

  private:
    enum class Part : std::uint8_t { kLine, kData, kDataEnd };

    State feed_chunks(std::string_view bytes);
    State chunk_line();
    State content(std::string_view bytes);

    std::string wanted_;
    HttpFraming framing_;
    std::string tail_;        ///< the last bytes of the content: the text may begin there
    std::size_t looked_ = 0;  ///< bytes of content so far
    Part part_ = Part::kLine;
    std::string line_;         ///< of a chunk's size
    std::uint64_t chunk_ = 0;  ///< bytes of it to come
    State state_ = State::kMore;
};

}  // namespace detour::health

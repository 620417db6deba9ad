// An arbitrary byte stream, cut into pieces whose sizes the first byte decides.
//
// The payloads must not depend on the cuts, and framed again they must be what was consumed of the stream.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "dataplane/api/framing.h"

using namespace detour;

namespace {

struct Result {
    std::string consumed;  ///< the payloads, framed again
    bool refused = false;
    bool operator==(const Result&) const = default;
};

Result read(std::string_view stream, std::size_t piece) {
    Result result;
    api::FrameReader reader;
    for (std::size_t at = 0; at < stream.size() && !result.refused; at += piece) {
        reader.feed(stream.substr(at, piece));
        while (true) {
            const auto payload = reader.next();
            result.refused = !payload.has_value();
            if (result.refused || !payload->has_value()) break;
            result.consumed += api::frame(**payload);
        }
    }
    return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    const std::string_view stream(reinterpret_cast<const char*>(data) + 1, size - 1);
    const Result whole = read(stream, size);
    if (whole != read(stream, 1U + data[0])) std::abort();
    if (stream.substr(0, whole.consumed.size()) != whole.consumed) std::abort();
    return 0;
}

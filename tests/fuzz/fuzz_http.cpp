// An HTTP answer, cut into pieces whose sizes the first byte decides: head and body must not depend on the
// cuts.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "control/health/http_body.h"
#include "control/health/http_head.h"

using namespace detour::health;

namespace {

struct Result {
    HttpHead::State head = HttpHead::State::kMore;
    std::uint16_t status = 0;
    std::size_t size = 0;
    HttpBody::State body = HttpBody::State::kMore;
    bool operator==(const Result&) const = default;
};

Result read(std::string_view stream, std::size_t piece) {
    Result result;
    HttpHead head;
    std::size_t at = 0;
    for (; at < stream.size() && result.head == HttpHead::State::kMore; at += piece) {
        result.head = head.feed(stream.substr(at, piece));
    }
    if (result.head != HttpHead::State::kDone) return result;
    result.status = head.status();
    result.size = head.size();
    if (result.size > stream.size() || result.status < 200) std::abort();
    HttpBody body("ready", head.framing());
    for (at = result.size; at < stream.size(); at += piece) (void)body.feed(stream.substr(at, piece));
    result.body = body.end();
    if (result.body == HttpBody::State::kMore) std::abort();
    return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    const std::string_view stream(reinterpret_cast<const char*>(data) + 1, size - 1);
    if (!(read(stream, size) == read(stream, 1U + data[0]))) std::abort();
    return 0;
}

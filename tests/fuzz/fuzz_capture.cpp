// Arbitrary frames as lbctl capture shows them: on a line, and in a pcapng block of the right length.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tools/lbctl/packet_line.h"
#include "tools/lbctl/pcapng.h"

using namespace detour::lbctl;

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

/// Blocks one behind the other, each with its length before and after.
void walk(const std::string& blocks) {
    std::size_t at = 0;
    while (at < blocks.size()) {
        std::uint32_t length = 0;
        require(at + 12 <= blocks.size());
        std::memcpy(&length, blocks.data() + at + 4, 4);
        require(length >= 12 && length % 4 == 0 && at + length <= blocks.size());
        std::uint32_t again = 0;
        std::memcpy(&again, blocks.data() + at + length - 4, 4);
        require(again == length);
        at += length;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::span<const std::uint8_t> frame(data, size);
    for (const std::string& line : {packet_line(frame), ip_line(frame)}) {
        require(!line.empty() && line.size() < 200);
        for (const char c : line) require(c >= ' ' && c <= '~');
    }
    Pcapng file;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    std::string blocks = Pcapng::header("fuzz");
    blocks += file.packet({Pcapng::Way::kReceived, "eth1", 1, frame, 0, text});
    blocks += file.packet({Pcapng::Way::kSent, std::string(text), ~0ULL, frame, ~0U, ""});
    walk(blocks);
    return 0;
}

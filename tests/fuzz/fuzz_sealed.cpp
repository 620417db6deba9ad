// State files of the fast path: what was sealed comes back, and nothing else is taken. What is inside is the
// wire format, which has a target of its own (fuzz_wire.cpp).
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "dataplane/io/state_store.h"

namespace {

using namespace detour;

void require(bool condition) {
    if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const auto payload = io::unseal(bytes);
    if (payload) {
        require(io::seal(*payload) == bytes);
    } else {
        require(!payload.error().what.empty());
    }
    std::string sealed = io::seal(bytes);
    const auto back = io::unseal(sealed);
    require(back.has_value() && *back == bytes);
    // One altered bit, one byte less, one more: refused.
    const std::size_t bit = size == 0 ? 0 : (data[0] * 257U + data[size - 1]) % (sealed.size() * 8);
    sealed[bit / 8] = static_cast<char>(sealed[bit / 8] ^ (1 << (bit % 8)));
    require(!io::unseal(sealed));
    sealed[bit / 8] = static_cast<char>(sealed[bit / 8] ^ (1 << (bit % 8)));
    require(!io::unseal(std::string_view(sealed).substr(0, sealed.size() - 1)));
    require(!io::unseal(sealed + '\0'));
    return 0;
}

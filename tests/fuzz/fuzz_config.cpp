// The configuration's loader on arbitrary text.
//
// Beside what the sanitizers see: a refused text has 1 to 50 mistakes, each with a place in the file; an
// accepted one compares equal to itself and has only names that its own references can find.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "config/diff.h"
#include "config/load.h"

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const detour::config::Loaded loaded = detour::config::load_text(text, "f.toml");
    if (!loaded) {
        require(!loaded.error().empty() && loaded.error().size() <= 50);
        for (const auto& mistake : loaded.error()) {
            require(mistake.origin.line >= 1 && mistake.origin.column >= 1);
            require(mistake.to_string().size() < 4096);
        }
        return 0;
    }
    require(detour::config::diff(*loaded, *loaded).empty());
    for (const auto& pool : loaded->pools) {
        for (const auto& backend : pool.backends) require(loaded->find_site(backend.site) != nullptr);
        for (const auto& name : pool.depends_on) require(loaded->find_pool(name) != nullptr);
    }
    return 0;
}

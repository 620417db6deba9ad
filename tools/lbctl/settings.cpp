#include "tools/lbctl/settings.h"

#include <chrono>
#include <cstdio>

#include "control/api/json.h"

namespace detour::lbctl {

namespace {

void write(std::FILE* file, std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), file);
    std::fflush(file);
}

}  // namespace

View Settings::view() const {
    return {colour, std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now())};
}

void print(std::string_view text) {
    write(stdout, text);
}

void note(std::string_view text) {
    write(stderr, text);
}

ExitCode report(const Settings& settings, const control::ApiError& error) {
    note(settings.json() ? control::to_json(error) + "\n" : render(error, settings.view()));
    return exit_code(error);
}

}  // namespace detour::lbctl

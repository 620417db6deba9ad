// What every verb needs to know of the command line, and how it prints. Values, one thread.
#pragma once

#include <string>
#include <string_view>

#include "control/api/client.h"
#include "tools/lbctl/exit_code.h"
#include "tools/lbctl/render.h"

namespace detour::lbctl {

enum class Output { kTable, kJson };

struct Settings {
    std::string socket;
    Output output = Output::kTable;
    Colour colour = Colour::kOff;

    [[nodiscard]] control::Client client() const { return control::Client(socket); }
    [[nodiscard]] bool json() const noexcept { return output == Output::kJson; }
    [[nodiscard]] View view() const;
};

/// To standard output, flushed: what reads the other end sees it now.
void print(std::string_view text);
/// To standard error, flushed.
void note(std::string_view text);
/// The error on standard error, as text or JSON, and the exit code that it means.
ExitCode report(const Settings& settings, const control::ApiError& error);

}  // namespace detour::lbctl

// lbctl: operates Detour through the control process's API.
#include <csignal>
#include <exception>

#include "tools/lbctl/cli.h"

int main(int argc, char** argv) {
    using namespace detour::lbctl;
    ::signal(SIGPIPE, SIG_IGN);
    try {
        const auto invocation = parse_command_line(argc, argv);
        if (!invocation) return static_cast<int>(invocation.error());
        return static_cast<int>(invocation->run(invocation->settings));
    } catch (const std::exception& error) {
        note(std::string("lbctl: ") + error.what() + "\n");
        return static_cast<int>(ExitCode::kFailed);
    }
}

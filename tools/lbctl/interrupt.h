// Ctrl-C while a command is under way: says what goes on without us, then ends as any program does.
//
// While one lives, SIGINT and SIGTERM print its text (async-signal-safe) and end the process by that signal;
// nothing is undone. One at a time.
#pragma once

#include <string>

namespace detour::lbctl {

class InterruptNote {
  public:
    explicit InterruptNote(std::string text);
    ~InterruptNote();
    InterruptNote(const InterruptNote&) = delete;
    InterruptNote& operator=(const InterruptNote&) = delete;

  private:
    std::string text_;
};

}  // namespace detour::lbctl

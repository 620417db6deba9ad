#include "tools/lbctl/interrupt.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <utility>

namespace detour::lbctl {

namespace {

// Read by the handler; the pointer is written last and cleared first.
std::atomic<const char*> note_text{nullptr};
std::atomic<std::size_t> note_size{0};

extern "C" void on_interrupt(int signal_number) {
    if (const char* text = note_text.load()) {
        [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text, note_size.load());
    }
    ::signal(signal_number, SIG_DFL);
    ::raise(signal_number);
}

void handle_with(void (*handler)(int)) {
    struct sigaction action {};
    action.sa_handler = handler;
    ::sigemptyset(&action.sa_mask);
    ::sigaction(SIGINT, &action, nullptr);
    ::sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

InterruptNote::InterruptNote(std::string text) : text_("\n" + std::move(text) + "\n") {
    note_size = text_.size();
    note_text = text_.c_str();
    handle_with(on_interrupt);
}

InterruptNote::~InterruptNote() {
    handle_with(SIG_DFL);
    note_text = nullptr;
}

}  // namespace detour::lbctl

// doctest's main, which skips with its reason when the kernel would refuse everything.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdio>

namespace {
constexpr int kSkipped = 77;
}

int main(int argc, char** argv) {
    if (geteuid() != 0) {
        std::puts("skipped: needs root to load BPF programs");
        return kSkipped;
    }
    return doctest::Context(argc, argv).run();
}

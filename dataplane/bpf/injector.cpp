#include "dataplane/bpf/injector.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>

#include "dataplane/bpf/steer_maps.h"

namespace detour::bpf {
namespace {

tl::unexpected<api::Error> too_long(std::size_t size) {
    return api::fail(api::ErrorCode::kLimit, "handing a frame to the kernel",
                     std::to_string(size) + " bytes are more than BPF_PROG_RUN takes");
}

}  // namespace

api::Result<Injector> Injector::open() {
    std::array<bpf_insn, 2> pass{};
    pass[0].code = BPF_ALU64 | BPF_MOV | BPF_K;
    pass[0].dst_reg = BPF_REG_0;
    pass[0].imm = XDP_PASS;
    pass[1].code = BPF_JMP | BPF_EXIT;
    const int fd =
        bpf_prog_load(BPF_PROG_TYPE_XDP, "detour_inject", "GPL", pass.data(), pass.size(), nullptr);
    if (fd < 0) {
        return api::fail(api::ErrorCode::kSystem, "loading the program that hands frames to the kernel",
                         std::generic_category().message(errno));
    }
    return Injector(Descriptor(fd));
}

api::Result<void> Injector::inject(int interface, std::span<const std::uint8_t> frame) {
    constexpr std::uint32_t kMark = STEER_HANDED_BACK;
    std::memcpy(buffer_.data(), &kMark, sizeof kMark);
    if (frame.size() > buffer_.size() - sizeof kMark) return too_long(frame.size());
    std::memcpy(buffer_.data() + sizeof kMark, frame.data(), frame.size());
    const auto size = static_cast<std::uint32_t>(sizeof kMark + frame.size());
    xdp_md context{};
    context.data = sizeof kMark;  // what lies before it is metadata
    context.data_end = size;
    context.ingress_ifindex = static_cast<std::uint32_t>(interface);
    bpf_test_run_opts options{};
    options.sz = sizeof options;
    options.data_in = buffer_.data();
    options.data_size_in = size;
    options.ctx_in = &context;
    options.ctx_size_in = sizeof context;
    options.repeat = 1;
    options.batch_size = 1;
    options.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
    if (bpf_prog_test_run_opts(program_.get(), &options) == 0) return {};
    return api::fail(api::ErrorCode::kSystem,
                     "handing a frame of " + std::to_string(frame.size()) +
                         " bytes to the kernel on interface " + std::to_string(interface),
                     std::generic_category().message(errno));
}

}  // namespace detour::bpf

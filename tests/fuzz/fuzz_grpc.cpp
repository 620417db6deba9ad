// Any bytes as a server's side of a gRPC health call. Served in two pieces, it comes to the same answer as in
// one; nothing but a whole SERVING is an answer.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "control/health/grpc_call.h"

using namespace detour;

namespace {

health::Outcome answer(std::string_view first, std::string_view second) {
    health::GrpcCall call({"talk.example", "login", false});
    for (const std::string_view piece : {first, second}) {
        (void)call.output();
        call.input(piece);
    }
    if (!call.done()) call.end();
    return call.outcome();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
    const std::size_t cut = bytes.empty() ? 0 : data[0] % bytes.size();
    const health::Outcome whole = answer(bytes, {});
    const health::Outcome pieces = answer(bytes.substr(0, cut), bytes.substr(cut));
    if (whole.cause == health::Cause::kOk && (whole.status != 1 || !(pieces == whole))) std::abort();
    const int status = health::read_grpc_health(bytes);
    if (status < -1 || status > 0xffff) std::abort();
    return 0;
}

// Any bytes as the answer to a DNS query. An answer is taken for one only with the id, and with the question
// unless it is an error.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "control/health/dns_message.h"

using namespace detour;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const health::DnsQuestion question{0x1234, "talk.example", config::DnsType::kA};
    const health::DnsAnswer answer = health::read_dns_answer(bytes, question);
    if (answer.kind != health::DnsAnswer::Kind::kAnswer) return 0;
    if (!bytes.starts_with("\x12\x34") || answer.rcode > 15) std::abort();
    if (answer.rcode == 0 && size < health::dns_query(question).size()) std::abort();
    return 0;
}

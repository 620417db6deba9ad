#include "control/health/dns_message.h"

#include <algorithm>
#include <cstddef>

namespace detour::health {

namespace {

constexpr std::size_t kHeaderBytes = 12;
constexpr std::uint16_t kClassIn = 1;
constexpr unsigned kResponse = 0x8000;
constexpr unsigned kOpcode = 0x7800;
constexpr unsigned kRecursionDesired = 0x0100;

void put16(std::string& out, unsigned value) {
    out += static_cast<char>(value >> 8U);
    out += static_cast<char>(value & 0xffU);
}

/// `at + 2` is within `bytes`.
unsigned get16(std::string_view bytes, std::size_t at) {
    return static_cast<unsigned>(static_cast<unsigned char>(bytes[at])) << 8U |
           static_cast<unsigned char>(bytes[at + 1]);
}

std::string question_bytes(const DnsQuestion& question) {
    std::string out;
    for (std::size_t begin = 0; begin < question.name.size();) {
        const std::size_t end = std::min(question.name.find('.', begin), question.name.size());
        out += static_cast<char>(end - begin);
        out.append(question.name, begin, end - begin);
        begin = end + 1;
    }
    out += '\0';
    put16(out, static_cast<unsigned>(question.type));
    put16(out, kClassIn);
    return out;
}

/// Letters of names have no case. Lengths and types are below 64: folding leaves them alone.
bool same(std::string_view a, std::string_view b) {
    const auto fold = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; };
    return std::ranges::equal(a, b, {}, fold, fold);
}

}  // namespace

std::string dns_query(const DnsQuestion& question) {
    std::string out;
    put16(out, question.id);
    put16(out, kRecursionDesired);
    put16(out, 1);
    for (int section = 0; section < 3; ++section) put16(out, 0);
    return out + question_bytes(question);
}

DnsAnswer read_dns_answer(std::string_view bytes, const DnsQuestion& question) {
    if (bytes.size() < 2 || get16(bytes, 0) != question.id) return {DnsAnswer::Kind::kNotOurs, 0};
    if (bytes.size() < kHeaderBytes) return {DnsAnswer::Kind::kBad, 0};
    const unsigned flags = get16(bytes, 2);
    if ((flags & kResponse) == 0) return {DnsAnswer::Kind::kNotOurs, 0};
    const auto rcode = static_cast<std::uint8_t>(flags & 0xfU);
    const unsigned questions = get16(bytes, 4);
    const std::string asked = question_bytes(question);
    const bool echoed = questions == 1 && same(bytes.substr(kHeaderBytes, asked.size()), asked);
    const bool left_out = questions == 0 && rcode != 0;
    if ((flags & kOpcode) != 0 || !(echoed || left_out)) return {DnsAnswer::Kind::kBad, 0};
    return {DnsAnswer::Kind::kAnswer, rcode};
}

}  // namespace detour::health

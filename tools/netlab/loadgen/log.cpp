#include "tools/netlab/loadgen/log.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace detour::netlab {
namespace {

/// Microseconds after the start, or null.
std::string after(std::uint64_t start, std::uint64_t when) {
    return when == 0 ? "null" : std::to_string((when - std::min(start, when)) / 1000);
}

std::string object(const std::map<std::string, std::uint64_t>& counts) {
    std::string text = "{";
    for (const auto& [name, count] : counts) {
        if (text.size() > 1) text += ',';
        text += '"' + name + "\":" + std::to_string(count);
    }
    return text + "}";
}

}  // namespace

Log::Log(const std::string& path) : file_(std::fopen(path.c_str(), "we")) {
    if (file_ == nullptr) throw std::runtime_error(path + ": " + std::strerror(errno));
}

Log::~Log() {
    std::fclose(file_);
}

void Log::write(const Record& r, const AnswerReader& answer) {
    ++results_[to_string(r.kind)][to_string(r.result)];
    if (r.kind == Kind::kNew && r.result == Result::kOk) ++sites_[answer.site()];
    std::fprintf(
        file_,
        R"({"id":%llu,"kind":"%s","slot":%u,"src":"%s","sport":%u,"dst":"%s","dport":%u,"start_ns":%llu,)"
        R"("connect_us":%s,"first_us":%s,"last_us":%s,"done_us":%s,"result":"%s","errno":%d,"status":%d,)"
        R"("site":"%s","backend":"%s","requests":%llu,"answers":%llu,"in":%llu,"out":%llu,)"
        R"("longest_us":%llu,"syn_retries":%u,"retransmits":%u})"
        "\n",
        static_cast<unsigned long long>(r.id), to_string(r.kind), r.slot, r.local.host().c_str(),
        r.local.port(), r.target.host().c_str(), r.target.port(), static_cast<unsigned long long>(r.start),
        after(r.start, r.connected).c_str(), after(r.start, r.first).c_str(),
        after(r.start, r.last_in).c_str(), after(r.start, r.done).c_str(), to_string(r.result), r.error,
        answer.status(), answer.site().c_str(), answer.backend().c_str(),
        static_cast<unsigned long long>(r.requests), static_cast<unsigned long long>(answer.answers()),
        static_cast<unsigned long long>(r.bytes_in), static_cast<unsigned long long>(r.bytes_out),
        static_cast<unsigned long long>(r.longest_wait / 1000), r.syn_retries, r.retransmits);
}

void Log::report(std::uint64_t now, std::size_t open, std::size_t idle) {
    std::string text = "{\"time_ns\":" + std::to_string(now) + ",\"open\":" + std::to_string(open) +
                       ",\"idle_answered\":" + std::to_string(idle);
    for (const auto& [kind, counts] : results_) text += ",\"" + kind + "\":" + object(counts);
    text += ",\"sites\":" + object(sites_) + "}\n";
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
}

void Log::flush() {
    std::fflush(file_);
}

}  // namespace detour::netlab

#include "tools/netlab/loadgen/answer.h"

#include <algorithm>
#include <cstdlib>

namespace detour::netlab {
namespace {
constexpr std::size_t kMaxHead = 4096;
}  // namespace

std::uint32_t AnswerReader::feed(std::string_view data) {
    std::uint32_t completed = 0;
    while (!data.empty() && !broken_) {
        if (in_body_) {
            if (until_close_) return completed;
            const std::uint64_t part = std::min<std::uint64_t>(body_left_, data.size());
            body_left_ -= part;
            data.remove_prefix(part);
        } else {
            const std::size_t before = head_.size();
            head_.append(data.substr(0, kMaxHead));
            const std::size_t end = head_.find("\r\n\r\n", before < 3 ? 0 : before - 3);
            if (end == std::string::npos) {
                broken_ = head_.size() >= kMaxHead;
                return completed;
            }
            data.remove_prefix(end + 4 - before);
            head_.resize(end + 2);
            parse_head();
        }
        if (in_body_ && !until_close_ && body_left_ == 0) {
            in_body_ = false;
            ++answers_;
            ++completed;
        }
    }
    return completed;
}

std::string AnswerReader::header(std::string_view name) const {
    const std::string wanted = "\r\n" + std::string(name) + ": ";
    const std::size_t at = head_.find(wanted);
    if (at == std::string::npos) return {};
    const std::size_t begin = at + wanted.size();
    return head_.substr(begin, head_.find("\r\n", begin) - begin);
}

void AnswerReader::parse_head() {
    broken_ = head_.rfind("HTTP/1.", 0) != 0 || head_.size() < 12;
    status_ = broken_ ? 0 : std::atoi(head_.c_str() + 9);
    if (std::string site = header("X-Site"); !site.empty()) site_ = std::move(site);
    if (std::string backend = header("X-Backend"); !backend.empty()) backend_ = std::move(backend);
    const std::string length = header("Content-Length");
    until_close_ = length.empty();
    body_left_ = length.empty() ? 0 : std::strtoull(length.c_str(), nullptr, 10);
    in_body_ = true;
    head_.clear();
}

}  // namespace detour::netlab

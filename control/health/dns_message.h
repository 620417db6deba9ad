// A DNS query of one question, and what its answer says (RFC 1035, section 4).
//
// Pure, any thread. Of an answer, the header and the question are read, which is what tells whose answer it
// is and whether the server serves; the records are not.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "config/model.h"

namespace detour::health {

struct DnsQuestion {
    std::uint16_t id = 0;
    std::string name;  ///< passes config's rule: labels of 1 to 63 bytes, "talk.example"; a dot may end it
    config::DnsType type = config::DnsType::kA;
};

/// Class IN, recursion desired.
[[nodiscard]] std::string dns_query(const DnsQuestion& question);

struct DnsAnswer {
    enum class Kind : std::uint8_t {
        kAnswer,
        kNotOurs,  ///< another id, or a query
        kBad,      ///< our id, but cut short or to another question
    };
    Kind kind = Kind::kBad;
    std::uint8_t rcode = 0;  ///< kAnswer
    bool operator==(const DnsAnswer&) const = default;
};

/// A server that could not read the query may leave the question out of its error.
[[nodiscard]] DnsAnswer read_dns_answer(std::string_view bytes, const DnsQuestion& question);

}  // namespace detour::health

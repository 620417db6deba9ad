// Addresses, VIPs and seeds as text and bytes.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "dataplane/api/counters.h"
#include "dataplane/api/types.h"

using namespace detour::api;

TEST_CASE("addresses are read and written; IPv6 in the form of RFC 5952") {
    struct Row {
        const char* text;
        const char* written;
        std::size_t size;
    };
    const std::vector<Row> rows{
        {"192.0.2.1", "192.0.2.1", 4},
        {"255.255.255.255", "255.255.255.255", 4},
        {"2001:db8::1", "2001:db8::1", 16},
        {"2001:DB8:0:0:0:0:0:1", "2001:db8::1", 16},
        {"::", "::", 16},
        {"::1", "::1", 16},
    };
    for (const Row& row : rows) {
        CAPTURE(row.text);
        const auto address = IpAddress::parse(row.text);
        REQUIRE(address.has_value());
        CHECK(address->to_string() == row.written);
        CHECK(address->wire().size() == row.size);
        CHECK(address->is_v6() == (row.size == 16));
        CHECK(IpAddress::from_bytes(address->wire()).value() == *address);
    }
}

TEST_CASE("what is no address is refused, and the error shows it") {
    for (const std::string& text : std::vector<std::string>{
             "", "192.0.2", "192.0.2.256", "192.0.2.1 ", " 192.0.2.1", "192.0.2.1/24", "01.2.3.4", "[::1]",
             "fe80::1%eth0", "2001:db8", "host", "1:2:3:4:5:6:7:8:9", std::string("::1\0", 4)}) {
        CAPTURE(text);
        const auto address = IpAddress::parse(text);
        REQUIRE(!address.has_value());
        CHECK(address.error().code == ErrorCode::kInvalidArgument);
        CHECK(address.error().what.find(text) != std::string::npos);
    }
    for (const std::size_t size : {0U, 3U, 5U, 15U, 17U})
        CHECK(!IpAddress::from_bytes(std::string(size, 'x')));
}

TEST_CASE("an IPv4 address is never equal to an IPv6 address of the same bytes") {
    CHECK(IpAddress::parse("32.1.13.184").value() != IpAddress::parse("2001:db8::").value());
}

TEST_CASE("VIPs are read and written") {
    for (const char* text : {"203.0.113.10:443/tcp", "203.0.113.10:65535/udp", "[2001:db8:f::10]:1/tcp"}) {
        CAPTURE(text);
        const auto vip = Vip::parse(text);
        REQUIRE(vip.has_value());
        CHECK(vip->to_string() == text);
    }
}

TEST_CASE("what is no VIP is refused") {
    for (const char* text :
         {"", "203.0.113.10", "203.0.113.10:443", "203.0.113.10/tcp", "203.0.113.10:0/tcp",
          "203.0.113.10:65536/tcp", "203.0.113.10:443/sctp", "203.0.113.10:443/TCP ", "203.0.113.10:/tcp",
          "203.0.113.10:+1/tcp", "2001:db8:f::10:443/tcp", "[2001:db8:f::10:443/tcp",
          "[203.0.113.10]:443/tcp", "[2001:db8:f::10]443/tcp"}) {
        CAPTURE(text);
        const auto vip = Vip::parse(text);
        REQUIRE(!vip.has_value());
        CHECK(vip.error().code == ErrorCode::kInvalidArgument);
    }
}

TEST_CASE("a seed depends on every character of its text") {
    CHECK(FleetSeed::from_text("a") == FleetSeed::from_text("a"));
    const std::vector<std::string> texts{
        "", "a", "b", "aa", "ab", "a ", std::string(100, 'x'), std::string(101, 'x')};
    for (std::size_t i = 0; i < texts.size(); ++i)
        for (std::size_t j = 0; j < i; ++j)
            CHECK(FleetSeed::from_text(texts[i]) != FleetSeed::from_text(texts[j]));
}

TEST_CASE("is_forwarded() says of every reason what the table of reasons says") {
    for (const detour::api::ReasonInfo& row : detour::api::kReasons) {
        CAPTURE(row.name);
        CHECK(detour::api::is_forwarded(row.reason) == (row.outcome == detour::api::Outcome::kForwarded));
    }
}

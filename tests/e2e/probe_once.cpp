// Sends one probe for test_probes.py and prints what came of it.
//
//   probe_once TYPE ADDRESS PORT TIMEOUT_MS [KEY=VALUE ...]
//   keys: path, payload, service, server_name, ca_file
//   stdout: "CAUSE STATUS", such as "ok 1" or "timeout 0"
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "control/health/prober.h"

using namespace detour;

namespace {

[[noreturn]] void die(const std::string& text) {
    std::cerr << "probe_once: " << text << std::endl;
    std::exit(2);
}

config::Health health_from(int argc, char** argv) {
    using config::ProbeType;
    const std::map<std::string, ProbeType> types{
        {"grpc", ProbeType::kGrpc}, {"grpcs", ProbeType::kGrpcs}, {"icmp", ProbeType::kIcmp},
        {"tcp", ProbeType::kTcp},   {"http", ProbeType::kHttp},   {"https", ProbeType::kHttps},
        {"tls", ProbeType::kTls},   {"udp", ProbeType::kUdp},     {"dns", ProbeType::kDns}};
    const auto type = types.find(argv[1]);
    if (type == types.end()) die(std::string("no type ") + argv[1]);
    config::Health health;
    health.type = type->second;
    health.port = api::Port(static_cast<std::uint16_t>(std::atoi(argv[3])));
    health.timeout = std::chrono::milliseconds(std::atoi(argv[4]));
    health.status = {200};
    for (int i = 5; i < argc; ++i) {
        const std::string word = argv[i];
        const std::size_t equals = word.find('=');
        if (equals == std::string::npos) die(word);
        const std::string value = word.substr(equals + 1);
        if (word.starts_with("path=")) health.path = value;
        if (word.starts_with("query=")) health.query = value;
        if (word.starts_with("payload=")) health.payload = value;
        if (word.starts_with("service=")) health.service = value;
        if (word.starts_with("server_name=")) health.server_name = value;
        if (word.starts_with("ca_file=")) health.ca_file = value;
    }
    if (!health.ca_file.empty()) health.verify = config::TlsVerify::kName;
    return health;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 5) die("TYPE ADDRESS PORT TIMEOUT_MS [KEY=VALUE ...]");
    const auto address = api::IpAddress::parse(argv[2]);
    if (!address) die(address.error().to_string());
    boost::asio::io_context io;
    std::optional<health::Outcome> outcome;
    health::Prober prober(io, {}, [&](std::uint64_t, const health::Outcome& seen) {
        outcome = seen;
        io.stop();
    });
    prober.send(
        {api::BackendId(1), 1, *address, std::make_shared<const config::Health>(health_from(argc, argv))});
    io.run();
    if (!outcome) die("no outcome");
    std::printf("%s %u\n", std::string(health::to_string(outcome->cause)).c_str(), outcome->status);
    return 0;
}

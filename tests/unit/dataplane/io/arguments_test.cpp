#include "dataplane/io/arguments.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace detour::io {
namespace {

CommandLine parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "detour-dataplane");
    return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

TEST_CASE("a port is an interface, a PCI address or a device string") {
    struct Row {
        const char* text;
        PortKind kind;
        const char* name;
        const char* option;
    };
    const Row rows[] = {
        {"eth1", PortKind::kInterface, "eth1",
         "--vdev=net_af_xdp3,iface=eth1,start_queue=0,queue_count=2,xdp_prog=/x.o"},
        {"eth1.100", PortKind::kInterface, "eth1.100",
         "--vdev=net_af_xdp3,iface=eth1.100,start_queue=0,queue_count=2,xdp_prog=/x.o"},
        {"0000:01:00.0", PortKind::kPci, "0000:01:00.0", "--allow=0000:01:00.0"},
        {"3b:00.1", PortKind::kPci, "0000:3b:00.1", "--allow=0000:3b:00.1"},
        {"net_null0", PortKind::kDevice, "net_null0", "--vdev=net_null0"},
        {"net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap", PortKind::kDevice, "net_pcap0",
         "--vdev=net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap"},
    };
    for (const Row& row : rows) {
        CAPTURE(row.text);
        auto port = parse_port(row.text);
        REQUIRE(port.has_value());
        port->queues = 2;
        CHECK(port->kind == row.kind);
        CHECK(port->name == row.name);
        CHECK(device_arguments(*port, 3, "/x.o").option == row.option);
    }
}

TEST_CASE("a text that names no port is refused and quoted") {
    for (const std::string text : {"", "a/b", "eth1,x=y", "sixteen_letters_", "..", "01:00.8x", "eth 1"}) {
        CAPTURE(text);
        const auto port = parse_port(text);
        REQUIRE_FALSE(port.has_value());
        CHECK(port.error().what.find("'" + text + "'") != std::string::npos);
    }
}

TEST_CASE("defaults stand where nothing is given") {
    const CommandLine line = parse({"--port", "eth1"});
    REQUIRE(line.run.has_value());
    CHECK(line.run->ports.size() == 1);
    CHECK(line.run->workers == 1);
    CHECK(line.run->idle_sleep == std::chrono::microseconds(100));
    CHECK(line.run->huge_pages);
    CHECK(line.run->socket == "/run/detour/dataplane.sock");
    CHECK(line.run->flows_per_worker == 1U << 20U);
}

TEST_CASE("every argument arrives") {
    const CommandLine line = parse({"--port",
                                    "eth1",
                                    "--port",
                                    "net_null0",
                                    "--workers",
                                    "2",
                                    "--cores",
                                    "3,5",
                                    "--socket",
                                    "/s",
                                    "--state-dir",
                                    "/d",
                                    "--flows-per-worker",
                                    "4096",
                                    "--idle-sleep",
                                    "0",
                                    "--no-huge",
                                    "--steering",
                                    "/o",
                                    "--log-level",
                                    "debug"});
    REQUIRE(line.run.has_value());
    const Arguments& run = *line.run;
    CHECK(run.ports.size() == 2);
    CHECK(run.ports[1].name == "net_null0");
    CHECK(run.workers == 2);
    CHECK(run.cores == std::vector<unsigned>{3, 5});
    CHECK(run.socket == "/s");
    CHECK(run.state_dir == "/d");
    CHECK(run.flows_per_worker == 4096);
    CHECK(run.idle_sleep == std::chrono::microseconds(0));
    CHECK_FALSE(run.huge_pages);
    CHECK(run.steering_object == "/o");
    CHECK(run.log_level == "debug");
}

TEST_CASE("a mistake is exit code 2 with a text, help and version are 0") {
    struct Row {
        std::vector<const char*> arguments;
        int code;
        const char* part;
    };
    const Row rows[] = {
        {{}, 2, "--port"},
        {{"--port", "a/b"}, 2, "'a/b'"},
        {{"--port", "eth1", "--port", "eth1"}, 2, "named twice"},
        {{"--port", "net_null0", "--port", "net_null0,size=64"}, 2, "named twice"},
        {{"--port", "eth1", "--workers", "0"}, 2, "--workers"},
        {{"--port", "eth1", "--workers", "65"}, 2, "--workers"},
        {{"--port", "eth1", "--workers", "2", "--cores", "1"}, 2, "1 CPUs for 2 workers"},
        {{"--port", "eth1", "--flows-per-worker", "1023"}, 2, "--flows-per-worker"},
        {{"--port", "eth1", "--idle-sleep", "100001"}, 2, "--idle-sleep"},
        {{"--port", "eth1", "--log-level", "loud"}, 2, "--log-level"},
        {{"--port", "eth1", "--steering", "/a,b"}, 2, "comma"},
        {{"--port", "eth1", "--unknown"}, 2, "--unknown"},
        {{"--help"}, 0, "--flows-per-worker"},
        {{"--version"}, 0, "detour-dataplane "},
    };
    for (const Row& row : rows) {
        CAPTURE(row.part);
        const CommandLine line = parse(row.arguments);
        CHECK_FALSE(line.run.has_value());
        CHECK(line.exit_code == row.code);
        CHECK(line.text.find(row.part) != std::string::npos);
    }
}

TEST_CASE("16 ports are taken, 17 are not") {
    std::vector<PortSpec> ports;
    for (int i = 0; i < 16; ++i) ports.push_back(*parse_port("eth" + std::to_string(i)));
    CHECK(check_ports(ports).has_value());
    ports.push_back(*parse_port("eth16"));
    CHECK_FALSE(check_ports(ports).has_value());
}

}  // namespace
}  // namespace detour::io

"""The site gateway of docs/backends.md: its nftables example, as written there, in front of servers without a VIP."""

import os
import re
import select
import socket
import threading

import pytest
from scapy.all import TCP, Ether, raw

from netns import Pair, Wire, command, inside
from test_decap_netns import (CLIENT, CLIENT_PORTS, FAMILIES, PORT, VIP, Decap, answer_to, arguments,
                              configure, connect, encapsulate, ip)

MANUAL = os.path.join(os.path.dirname(__file__), "../../docs/backends.md")
SERVERS = {4: ("10.1.2.1", "10.1.2.2"), 6: ("2001:db8:a:2::1", "2001:db8:a:2::2")}
GATEWAY = {4: "10.1.2.254", 6: "2001:db8:a:2::fe"}


def example():
    """The ruleset in the manual, with this test's interface names."""
    with open(MANUAL, encoding="utf-8") as file:
        table = re.search(r"^table inet detour_gateway \{.*?^\}$", file.read(), re.DOTALL | re.MULTILINE).group()
    return table.replace('"eth0"', '"far"').replace('"eth2"', '"inside"')


class Servers:
    """One namespace with both servers' addresses; says who asked, as the server saw it."""

    def __init__(self, namespace):
        self._listeners = []
        with inside(namespace):
            for family in FAMILIES:
                for address in SERVERS[family]:
                    server = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
                    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    server.bind((address, PORT))
                    server.listen(8)
                    self._listeners.append(server)
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            for ready in select.select([self._stop, *self._listeners], [], [])[0]:
                if ready == self._stop:
                    return
                connection, peer = ready.accept()
                connection.sendall(f"seen {peer[0]} at {connection.getsockname()[0]}.".encode())
                connection.close()

    def close(self):
        os.write(self._stopped, b"x")
        self._thread.join()
        for server in self._listeners:
            server.close()
        os.close(self._stop)
        os.close(self._stopped)


@pytest.fixture(scope="module")
def gateway():
    pair = Pair("dcg")
    name = f"dcg{os.getpid()}s"
    try:
        configure(pair)
        for family in FAMILIES:  # a gateway does not hold the VIP
            command("ip", "-n", pair.far, "addr", "del", VIP[family] + {4: "/32", 6: "/128"}[family], "dev", "lo")
        command("ip", "netns", "exec", pair.far, "sysctl", "-qw", "net.ipv4.ip_forward=1",
                "net.ipv6.conf.all.forwarding=1")
        command("ip", "netns", "add", name)
        command("ip", "-n", pair.far, "link", "add", "inside", "type", "veth", "peer", "name", "eth0", "netns", name)
        for namespace, device, addresses in ((pair.far, "inside", GATEWAY), (name, "eth0", None)):
            command("ip", "-n", namespace, "link", "set", device, "up")
            for family, bits in ((4, "/24"), (6, "/64")):
                for address in [addresses[family]] if addresses else SERVERS[family]:
                    command("ip", "-n", namespace, "addr", "add", address + bits, "dev", device,
                            *(["nodad"] if family == 6 else []))
        command("ip", "netns", "exec", pair.far, "nft", example())
        yield pair, name
    finally:
        pair.close()
        command("ip", "netns", "del", name, check=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_servers_that_know_no_vip_answer_through_the_gateway(gateway, family):
    pair, servers_namespace = gateway
    servers = Servers(servers_namespace)
    wire = Wire(pair.near, "near")
    decap = Decap(pair.far, *arguments("xdp")).wait_ready()
    try:
        seen = set()
        # The server follows from the client's port: in 64 tries one server alone has a chance of 1 in 2^63.
        for _ in range(64):
            frame, _, port = connect(wire, "gue", 4, family)
            reply = Ether(frame)[TCP]
            assert reply.flags == "SA" and dict(reply.options)["MSS"] == {4: 1412, 6: 1392}[family]
            acknowledgement = ip(family, CLIENT[family], VIP[family]) / TCP(
                sport=port, dport=PORT, flags="A", seq=1001, ack=reply.seq + 1)
            wire.send(encapsulate("gue", 4, acknowledgement))
            answer, _ = wire.receive(lambda f: answer_to(family, TCP, port)(f) and b"seen " in f)
            text = raw(Ether(answer)[TCP].payload).decode()
            client, server = re.match(r"seen (\S+) at (\S+)\.", text).groups()
            assert client == GATEWAY[family], "masquerade makes the server answer to the gateway"
            seen.add(server)
            if len(seen) == 2:
                break
        assert seen == set(SERVERS[family])
    finally:
        decap.finish()
        wire.close()
        servers.close()


def test_what_has_no_translation_is_dropped_not_routed(gateway):
    pair, _ = gateway
    wire = Wire(pair.near, "near")
    decap = Decap(pair.far, *arguments("xdp")).wait_ready()
    try:
        for family in FAMILIES:
            stray = ip(family, CLIENT[family], VIP[family]) / TCP(sport=next(CLIENT_PORTS), dport=22, flags="S")
            wire.send(encapsulate("ipip", 4, stray))
        decap.wait_counter("decapsulated_ipip", 2)
        rules = command("ip", "netns", "exec", pair.far, "nft", "list", "chain", "inet", "detour_gateway", "stray")
        assert re.findall(r"packets (\d+)", rules) == ["1", "1"]
    finally:
        decap.finish()
        wire.close()

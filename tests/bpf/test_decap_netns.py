"""detour-decap in front of a real kernel: what comes in through a tunnel is answered by the servers on the VIP."""

import ipaddress
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import threading
import time

import pytest
from scapy.all import GRE, IP, TCP, UDP, Ether, IPv6, Raw, raw
from scapy.utils import checksum as internet_checksum

from netns import DEADLINE_SECONDS, Pair, Wire, command, inside

DECAP = os.environ.get("DETOUR_DECAP", "build/tools/decap/detour-decap")
STEER = os.environ.get("DETOUR_STEER", "build/dataplane/bpf/steer.bpf.o")
ENCAPS = ("ipip", "gue", "gue0", "gre")
FAMILIES = (4, 6)
PAIRS = list(itertools.product(ENCAPS, FAMILIES, FAMILIES))
POP = {4: "192.0.2.1", 6: "2001:db8:1::1"}
BACKEND = {4: "192.0.2.11", 6: "2001:db8:1::11"}
CLIENT = {4: "198.51.100.7", 6: "2001:db8:c::7"}
VIP = {4: "203.0.113.10", 6: "2001:db8:f::10"}
STRANGER = {4: "192.0.2.99", 6: "2001:db8:2::99"}
PORT = 443
COUNTER = {"ipip": "decapsulated_ipip", "gue": "decapsulated_gue", "gue0": "decapsulated_gue",
           "gre": "decapsulated_gre"}
CLIENT_PORTS = itertools.count(20000)

if os.geteuid() != 0:
    pytest.skip("needs root: network namespaces and BPF", allow_module_level=True)


def ip(family, source, destination):
    return IP(src=source, dst=destination) if family == 4 else IPv6(src=source, dst=destination)


def encapsulate(encap, outer, packet, source=None, port=6080):
    """A frame to the backend with `packet` (scapy IP or IPv6) inside."""
    inner = raw(packet)
    is_v4 = inner[0] >> 4 == 4
    head = ip(outer, source or POP[outer], BACKEND[outer])
    if encap == "ipip":
        field = "proto" if outer == 4 else "nh"
        setattr(head, field, 4 if is_v4 else 41)
        body = head / Raw(inner)
    elif encap == "gre":
        body = head / GRE(proto=0x0800 if is_v4 else 0x86DD) / Raw(inner)
    else:
        variant0 = bytes([0, 4 if is_v4 else 41, 0, 0]) if encap == "gue0" else b""
        body = head / UDP(sport=50000, dport=port, chksum=0) / Raw(variant0 + inner)
    return raw(Ether(src=Pair.NEAR_MAC, dst=Pair.FAR_MAC) / body)


class Servers:
    """Echo over UDP and TCP on both VIPs; remembers what arrived."""

    def __init__(self, namespace):
        self.heard = []
        self._closing = False
        self._sockets = []
        with inside(namespace):
            for family, kind in itertools.product(FAMILIES, (socket.SOCK_STREAM, socket.SOCK_DGRAM)):
                server = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                server.bind((VIP[family], PORT))
                if kind == socket.SOCK_STREAM:
                    server.listen(64)
                self._sockets.append(server)
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        listeners = set(self._sockets)
        while True:
            for ready in select.select([self._stop, *self._sockets], [], [])[0]:
                if ready == self._stop:
                    return
                if ready in listeners and ready.type == socket.SOCK_STREAM:
                    self._sockets.append(ready.accept()[0])
                elif ready in listeners:
                    data, sender = ready.recvfrom(65536)
                    self.heard.append(data)
                    ready.sendto(b"echo " + data, sender)
                else:
                    self._echo(ready)

    def _echo(self, connection):
        try:
            data = connection.recv(65536)
        except OSError:
            data = b""
        if data:
            self.heard.append(data)
            connection.send(b"echo " + data)
        else:
            self._sockets.remove(connection)
            connection.close()

    def close(self):
        os.write(self._stopped, b"x")
        self._thread.join()
        for server in self._sockets:
            server.close()
        os.close(self._stop)
        os.close(self._stopped)


class Decap:
    def __init__(self, namespace, *arguments):
        self.namespace = namespace
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, DECAP, "run", "--interface", "far", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_ready(self):
        assert self._process.stdout.readline() == "ready\n", self._process.stderr.read()
        return self

    def stats(self):
        text = command("ip", "netns", "exec", self.namespace, DECAP, "stats", "--output", "json")
        return json.loads(text)["interfaces"][0]

    def counter(self, name):
        return self.stats()["counters"][name]

    def wait_counter(self, name, value):
        until = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < until:
            if self.counter(name) >= value:
                break
        assert self.counter(name) == value, name

    def finish(self, number=signal.SIGTERM):
        """Sends the signal and returns the exit status and what was said on stderr."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        _, errors = self._process.communicate(timeout=DEADLINE_SECONDS)
        return self._process.returncode, errors


def arguments(mode):
    return ["--mode", mode, "--vip", VIP[4], VIP[6], "--source", POP[4] + "/32", "2001:db8:1::/48"]


def configure(pair):
    """The backend as docs/backends.md wants it; neighbours are static so that no packet is lost to ARP or ND."""
    for family in FAMILIES:
        flag = f"-{family}"
        bits = {4: "/24", 6: "/64"}[family]
        full = {4: "/32", 6: "/128"}[family]
        nodad = ["nodad"] if family == 6 else []
        command("ip", "-n", pair.far, "addr", "add", BACKEND[family] + bits, "dev", "far", *nodad)
        command("ip", "-n", pair.far, "addr", "add", VIP[family] + full, "dev", "lo", *nodad)
        command("ip", "-n", pair.far, flag, "neigh", "add", POP[family], "lladdr", Pair.NEAR_MAC, "dev", "far")
        command("ip", "-n", pair.far, flag, "route", "add", CLIENT[family], "via", POP[family])
    command("ip", "netns", "exec", pair.far, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.far.rp_filter=0")


@pytest.fixture(scope="module")
def pair():
    pair = Pair("dcp")
    try:
        configure(pair)
        yield pair
    finally:
        pair.close()


@pytest.fixture(scope="module")
def servers(pair):
    servers = Servers(pair.far)
    yield servers
    servers.close()


@pytest.fixture
def wire(pair):
    wire = Wire(pair.near, "near")
    yield wire
    wire.close()


@pytest.fixture(params=["xdp", "tc"])
def decap(request, pair):
    decap = Decap(pair.far, *arguments(request.param)).wait_ready()
    decap.mode = request.param
    yield decap
    decap.finish()


def answer_to(family, protocol, port):
    """Matches frames from the VIP to this client port, and gives the inner scapy packet."""
    def wanted(frame):
        packet = Ether(frame)
        layer = IP if family == 4 else IPv6
        return (layer in packet and packet[layer].src == VIP[family] and protocol in packet
                and packet[protocol].dport == port)
    return wanted


def ask_udp(wire, encap, outer, inner, text, source=None):
    port = next(CLIENT_PORTS)
    packet = ip(inner, CLIENT[inner], VIP[inner]) / UDP(sport=port, dport=PORT) / Raw(text)
    wire.send(encapsulate(encap, outer, packet, source))
    return port


def connect(wire, encap, outer, inner, options=(("MSS", 1460),)):
    """A handshake's first two packets: the SYN-ACK's frame, whether its checksum is partial, and the port."""
    port = next(CLIENT_PORTS)
    syn = ip(inner, CLIENT[inner], VIP[inner]) / TCP(sport=port, dport=PORT, flags="S", seq=1000,
                                                     options=list(options))
    wire.send(encapsulate(encap, outer, syn))
    frame, partial = wire.receive(answer_to(inner, TCP, port))
    return frame, partial, port


def pseudo_header_sum(packet, family, length):
    """What a partial checksum holds: the pseudo-header's sum, not complemented (RFC 9293, 3.1)."""
    layer = packet[IP if family == 4 else IPv6]
    addresses = [ipaddress.ip_address(address).packed for address in (layer.src, layer.dst)]
    return ~internet_checksum(b"".join(addresses) + length.to_bytes(4, "big") + b"\0\0\0\x06") & 0xFFFF


def check_tcp_checksum(frame, family, partial):
    packet = Ether(frame)
    segment = raw(packet[TCP])
    expected = pseudo_header_sum(packet, family, len(segment))
    if partial:
        assert packet[TCP].chksum == expected
    else:
        assert internet_checksum((expected).to_bytes(2, "big") + segment) == 0


@pytest.mark.parametrize("encap,outer,inner", PAIRS)
def test_udp_is_answered(decap, servers, wire, encap, outer, inner):
    text = f"{decap.mode} {encap} {inner}in{outer}".encode()
    port = ask_udp(wire, encap, outer, inner, text)
    frame, _ = wire.receive(answer_to(inner, UDP, port))
    assert raw(Ether(frame)[UDP].payload).startswith(b"echo " + text)
    assert decap.counter(COUNTER[encap]) == 1


@pytest.mark.parametrize("encap,outer,inner", PAIRS)
def test_tcp_connects_with_a_clamped_mss(decap, servers, wire, encap, outer, inner):
    frame, partial, port = connect(wire, encap, outer, inner)
    check_tcp_checksum(frame, inner, partial)
    reply = Ether(frame)[TCP]
    assert reply.flags == "SA"
    assert dict(reply.options)["MSS"] == {4: 1412, 6: 1392}[inner]
    data = (ip(inner, CLIENT[inner], VIP[inner]) /
            TCP(sport=port, dport=PORT, flags="PA", seq=1001, ack=reply.seq + 1) / Raw(b"hello"))
    wire.send(encapsulate(encap, outer, data))
    answer, _ = wire.receive(lambda f: answer_to(inner, TCP, port)(f) and b"echo hello" in f)
    assert raw(Ether(answer)[TCP].payload) == b"echo hello"
    reset = ip(inner, CLIENT[inner], VIP[inner]) / TCP(sport=port, dport=PORT, flags="R", seq=1006)
    wire.send(encapsulate(encap, outer, reset))
    assert decap.counter("synack_clamped") >= 1


@pytest.mark.parametrize("outer", FAMILIES)
def test_the_smallest_datagram_passes_every_family_pair(decap, servers, wire, outer):
    for inner in FAMILIES:
        port = ask_udp(wire, "ipip", outer, inner, b"")
        wire.receive(answer_to(inner, UDP, port))


@pytest.mark.parametrize("outer", FAMILIES)
def test_another_source_is_refused_and_counted(decap, servers, wire, outer):
    ask_udp(wire, "gue", outer, outer, b"refused", STRANGER[outer])
    decap.wait_counter("not_a_source", 1)
    port = ask_udp(wire, "gue", outer, outer, b"sentinel")
    wire.receive(answer_to(outer, UDP, port))
    assert b"sentinel" in servers.heard and b"refused" not in servers.heard


def test_an_inner_destination_that_is_no_vip_is_refused(decap, wire):
    packet = IP(src=CLIENT[4], dst=BACKEND[4]) / UDP(sport=1, dport=PORT) / Raw(b"x")
    wire.send(encapsulate("ipip", 4, packet))
    decap.wait_counter("not_a_vip", 1)


def test_what_is_no_tunnel_reaches_the_kernel(decap, pair):
    command("ip", "-n", pair.near, "addr", "add", POP[4] + "/24", "dev", "near")
    try:
        command("ip", "netns", "exec", pair.near, "ping", "-c", "1", "-W", "5", BACKEND[4])
    finally:
        command("ip", "-n", pair.near, "addr", "del", POP[4] + "/24", "dev", "near")


@pytest.mark.parametrize("offload", ["off", "on"])
@pytest.mark.parametrize("options", [
    (("MSS", 1460),),
    (("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)),
    (("MSS", 1000),),
], ids=["mss", "all options", "small client mss"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_checksum_is_right_with_and_without_offload(decap, servers, wire, pair, family, options, offload):
    pair.offload(pair.far, "far", offload)
    try:
        frame, partial, _ = connect(wire, "ipip", 4, family, options)
    finally:
        pair.offload(pair.far, "far", "off")
    assert partial == (offload == "on"), "the test must see the kind of checksum that it is about"
    check_tcp_checksum(frame, family, partial)
    assert dict(Ether(frame)[TCP].options)["MSS"] == {4: 1412, 6: 1392}[family]


def test_stats_name_every_counter_of_the_manual(decap):
    entry = decap.stats()
    assert entry["interface"] == "far"
    assert entry["mode"] == decap.mode
    assert entry["clamp"] is True
    manual = os.path.join(os.path.dirname(__file__), "../../docs/backends.md")
    with open(manual, encoding="utf-8") as file:
        rows = [line.split("|")[1].strip(" `") for line in file if line.startswith("| `")]
    assert list(entry["counters"]) == [row for row in rows if row in entry["counters"]]
    table = command("ip", "netns", "exec", decap.namespace, DECAP, "stats", "--interface", "far")
    assert all(name in table for name in entry["counters"])


def test_an_address_added_later_ends_tunnels_too(decap, servers, wire, pair):
    later = "192.0.2.77"
    command("ip", "-n", pair.far, "addr", "add", later + "/32", "dev", "far")
    try:
        until = time.monotonic() + DEADLINE_SECONDS
        while decap.counter("decapsulated_ipip") == 0 and time.monotonic() < until:
            packet = IP(src=CLIENT[4], dst=VIP[4]) / UDP(sport=next(CLIENT_PORTS), dport=PORT)
            wire.send(raw(Ether(src=Pair.NEAR_MAC, dst=Pair.FAR_MAC) / IP(src=POP[4], dst=later) / packet))
        assert decap.counter("decapsulated_ipip") > 0
    finally:
        command("ip", "-n", pair.far, "addr", "del", later + "/32", "dev", "far")


@pytest.mark.parametrize("first,second", itertools.product(["xdp", "tc"], repeat=2))
def test_a_killed_run_is_replaced_by_the_next(pair, servers, wire, first, second):
    killed = Decap(pair.far, *arguments(first)).wait_ready()
    ask_udp(wire, "ipip", 4, 4, b"before")
    killed.wait_counter("decapsulated_ipip", 1)
    # `ip netns exec` has become detour-decap by exec, so the signal reaches it.
    killed.finish(signal.SIGKILL)
    port = ask_udp(wire, "ipip", 4, 4, b"while dead")
    wire.receive(answer_to(4, UDP, port))
    decap = Decap(pair.far, *arguments(second)).wait_ready()
    assert decap.stats()["mode"] == second
    assert decap.counter("decapsulated_ipip") == 0
    port = ask_udp(wire, "ipip", 4, 4, b"after")
    wire.receive(answer_to(4, UDP, port))
    assert decap.finish() == (0, "")
    done = subprocess.run(["ip", "netns", "exec", pair.far, DECAP, "stats"], capture_output=True, text=True)
    assert done.returncode == 1 and "no interface" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_nothing_left(pair, number):
    assert Decap(pair.far, *arguments("xdp")).wait_ready().finish(number) == (0, "")
    assert "prog/xdp" not in command("ip", "-n", pair.far, "link", "show", "far")


def test_the_program_of_another_is_left_alone_and_named(pair):
    command("ip", "-n", pair.far, "link", "set", "far", "xdpgeneric", "obj", STEER, "sec", "xdp.frags")
    try:
        done = Decap(pair.far, *arguments("xdp"))
        status, errors = done.finish(0)
        assert status == 1 and "detour_steer" in errors
        assert "prog/xdp" in command("ip", "-n", pair.far, "link", "show", "far")
    finally:
        command("ip", "-n", pair.far, "link", "set", "far", "xdpgeneric", "off")


@pytest.mark.parametrize("words", [
    ["run", "--interface", "far", "--vip", "x", "--source", "192.0.2.1"],
    ["run", "--interface", "far", "--vip", "203.0.113.1", "--source", "192.0.2.1/24"],
    ["run", "--interface", "far", "--vip", "203.0.113.1", "--source", "192.0.2.1", "--tunnel-mtu", "99"],
    ["run"],
    ["fly"],
], ids=["vip", "prefix", "mtu", "nothing", "verb"])
def test_wrong_usage_is_exit_code_2(words):
    assert subprocess.run([DECAP, *words], capture_output=True).returncode == 2


@pytest.mark.parametrize("words", [["--help"], ["version"], ["run", "--help"]])
def test_help_and_version(words):
    assert subprocess.run([DECAP, *words], capture_output=True).returncode == 0

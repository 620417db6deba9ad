"""The real fast path on a real AF_XDP port: a veth pair between two namespaces, frames in, frames out.

The far end runs detour-dataplane; the near end plays client, router and backend with raw frames. What comes out is
taken apart by scapy, which nobody here wrote.
"""

import os
import socket
import sys
import time
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "support"), str(TESTS / "bpf")]
import fast_path  # noqa: E402
from fast_path import Control, Failure, PlanBuilder, Process, site_switch  # noqa: E402
from netns import Pair, Wire, command, inside  # noqa: E402

HOST, NEAR_HOST = "198.51.100.1", "198.51.100.2"
HOST6, NEAR_HOST6 = "2001:db8:a::1", "2001:db8:a::2"
VIP, VIP6 = "203.0.113.10", "2001:db8:f::10"
GUE_PORT = 6080
RESTART_SECONDS = 3.0


class Bench:
    """The pair, addresses as on a PoP host that has the VIP on its loopback, and the fast path on "far"."""

    def __init__(self, folder):
        self.folder = folder
        self.pair = Pair("dp")
        self.process = None
        for name, device, addresses in ((self.pair.near, "near", (f"{NEAR_HOST}/24", f"{NEAR_HOST6}/64")),
                                        (self.pair.far, "far", (f"{HOST}/24", f"{HOST6}/64"))):
            for address in addresses:
                command("ip", "-n", name, "addr", "add", address, "dev", device,
                        *(["nodad"] if ":" in address else []))
        for address in (VIP, VIP6):
            command("ip", "-n", self.pair.far, "addr", "add", address, "dev", "lo")
            command("ip", "-n", self.pair.near, "route", "add", address, "via", HOST6 if ":" in address else HOST)
        self.wire = Wire(self.pair.near, "near")

    def start(self, *arguments):
        self.process = Process(self.pair.far, self.folder, "--port", "far", *arguments)
        self.control = Control(self.process.socket_path)
        return self.control

    def close(self):
        if self.process and self.process.alive:
            self.process.kill()
        self.wire.close()
        self.pair.close()

    def plan(self):
        return PlanBuilder(Pair.FAR_MAC, Pair.NEAR_MAC)

    def send(self, packet):
        self.wire.send(bytes(Ether(src=Pair.NEAR_MAC, dst=Pair.FAR_MAC) / packet))

    def tunnelled(self, packet, seconds=5.0):
        """Sends `packet` and returns the frame that carries it, parsed."""
        inner = bytes(packet)
        self.send(packet)
        frame, _ = self.wire.receive(lambda f: f.endswith(inner) and f[6:12] == bytes.fromhex("020000000002"), seconds)
        return Ether(frame)

    def backend_of(self, packet):
        outer = self.tunnelled(packet)[1]
        return outer.dst


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    try:
        yield made
    finally:
        made.close()


def syn(port, source="10.9.9.9", destination=VIP, to=443):
    return IP(bytes(IP(src=source, dst=destination) / TCP(sport=port, dport=to, flags="S", seq=1000)))


def segment(port, ack=2001, source="10.9.9.9", flags="PA", data=b"hello"):
    return IP(bytes(IP(src=source, dst=VIP) / TCP(sport=port, dport=443, flags=flags, seq=1001, ack=ack) / Raw(data)))


def two_sites(bench, generation=1, verdicts=(0, 0), **pool):
    plan = bench.plan().site("pangyo", verdicts[0]).site("anyang", verdicts[1])
    plan.pool("talk", [(VIP, 443, 6), (VIP6, 443, 6), (VIP, 53, 17), (VIP6, 53, 17)],
              [["10.1.0.11", "10.1.0.12"], ["10.2.0.11", "10.2.0.12"]], **pool)
    return plan.generation(generation)


def counters(control):
    total = {}
    for worker in control.stats().workers:
        for row in worker.counters:
            total[row.reason] = total.get(row.reason, 0) + row.value
    return total


def wait_for(condition, seconds=5.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)


@pytest.mark.parametrize("encap", ["ipip", "gue"])
@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
def test_each_tunnel_carries_the_clients_packet_unchanged(bench, encap, outer, inner):
    backend = "10.1.0.11" if outer == 4 else "2001:db8:1::11"
    control = bench.start()
    plan = bench.plan().site("pangyo").pool("talk", [(VIP, 443, 6), (VIP6, 53, 17)], [[backend]], encap=encap)
    assert control.apply(plan.generation(1)).generation == 1
    if inner == 4:
        packet = IP(bytes(IP(src="10.9.9.9", dst=VIP) / TCP(sport=4000, dport=443, flags="S")))
    else:
        packet = IPv6(bytes(IPv6(src="2001:db8:9::9", dst=VIP6) / UDP(sport=4000, dport=53) / Raw(b"query")))
    frame = bench.tunnelled(packet)
    assert (frame.src, frame.dst) == (Pair.FAR_MAC, Pair.NEAR_MAC)
    header = frame[IP] if outer == 4 else frame[IPv6]
    assert (header.src, header.dst) == (("192.0.2.1" if outer == 4 else "2001:db8::1"), backend)
    assert_outer_header(header, encap, len(bytes(packet)), 4 if inner == 4 else 41)


def assert_outer_header(header, encap, inner_length, inner_protocol):
    """Lengths, protocol numbers and checksums of the outer header, as RFC 2003, 2473 and the GUE draft have them."""
    extra = 8 if encap == "gue" else 0
    protocol = 17 if encap == "gue" else inner_protocol
    if header.version == 4:
        assert header.len == 20 + extra + inner_length
        assert header.proto == protocol
        fresh = IP(bytes(header))
        del fresh.chksum
        assert IP(bytes(fresh)).chksum == header.chksum
    else:
        assert header.plen == extra + inner_length
        assert header.nh == protocol
    if encap == "gue":
        udp = header[UDP]
        assert udp.dport == GUE_PORT
        assert udp.len == 8 + inner_length
        assert udp.sport >= 32768


def test_the_kernel_keeps_all_that_is_not_a_vips(bench):
    control = bench.start()
    control.apply(two_sites(bench))
    for address in (HOST, HOST6):
        command("ip", "netns", "exec", bench.pair.near, "ping", "-c", "2", "-W", "2", address)
    # ssh-like TCP to the host, and another port of the VIP's own address.
    for address in (HOST, VIP):
        with inside(bench.pair.far):
            server = socket.create_server((address, 2222))
        with inside(bench.pair.near):
            client = socket.create_connection((address, 2222), timeout=5)
        accepted, _ = server.accept()
        client.sendall(b"ping")
        assert accepted.recv(4) == b"ping"
        for s in (client, accepted, server):
            s.close()
    # The VIP itself answers ping: ICMP comes to the fast path and goes back to the kernel.
    for address in (VIP, VIP6):
        command("ip", "netns", "exec", bench.pair.near, "ping", "-c", "3", "-i", "0.2", "-W", "2", address)


def test_a_flow_keeps_its_backend_and_stats_count_it(bench):
    control = bench.start()
    control.apply(two_sites(bench))
    first = {port: bench.backend_of(syn(port)) for port in range(5000, 5040)}
    for port, backend in first.items():
        assert bench.backend_of(segment(port, flags="A", data=b"")) == backend
        assert bench.backend_of(segment(port)) == backend
    assert len(set(first.values())) == 4, "two sites of two backends all take part"
    stats = control.stats()
    assert sum(row.packets for row in stats.pools) == 120
    assert sum(row.packets for row in stats.backends) == 120
    assert sum(site.handshakes for worker in stats.workers for site in worker.sites) == 40
    wait_for(lambda: control.stats().workers[0].flows_v4 == 40)
    wait_for(lambda: sum(control.stats().workers[0].flow_table.idle) == 40)
    table = control.stats().workers[0].flow_table
    assert table.entries_v4 >= 2 * 40 and table.entries_v6 > 0
    assert (table.evicted_confirmed, table.evicted_unconfirmed, table.no_place) == (0, 0, 0)
    assert stats.ports[0].rx_packets >= 120
    assert stats.ports[0].tx_packets >= 120


def test_a_dark_site_moves_its_own_new_flows_and_no_others(bench):
    control = bench.start()
    control.apply(two_sites(bench))
    before = {port: bench.backend_of(syn(port)) for port in range(6000, 6060)}
    rebuilds = control.stats().rebuilds
    reply = control.set_sites(site_switch(0, sequence=1, admit=0, keep=True))
    assert reply.sites[0].applied
    assert reply.rebuilds == rebuilds
    for port, backend in before.items():
        now = bench.backend_of(syn(port))
        if backend.startswith("10.1."):
            assert now.startswith("10.2.")
        else:
            assert now == backend
    assert any(backend.startswith("10.1.") for backend in before.values())
    assert not control.set_sites(site_switch(0, sequence=1)).sites[0].applied
    print(f"stores {reply.store_ns} ns, to the last worker {reply.switch_us} us")


def test_a_stranded_flow_is_reset_and_a_bystander_is_not(bench):
    control = bench.start()
    control.apply(two_sites(bench))
    ports = range(7000, 7040)
    backends = {}
    for port in ports:
        backends[port] = bench.backend_of(syn(port))
        bench.backend_of(segment(port, flags="A", data=b""))
    control.set_sites(site_switch(0, sequence=1, admit=0, keep=False))
    for port, backend in backends.items():
        if backend.startswith("10.2."):
            assert bench.backend_of(segment(port)) == backend
            continue
        bench.send(segment(port, ack=2001))
        frame, _ = bench.wire.receive(lambda f: (p := Ether(f)).haslayer(TCP) and p[TCP].dport == port
                                      and p[IP].src == VIP)
        answer = Ether(frame)
        assert "R" in answer[TCP].flags
        assert answer[TCP].seq == 2001


def test_plans_and_switches_that_come_late_change_nothing(bench):
    control = bench.start()
    with pytest.raises(Failure, match="pool"):
        control.apply(bench.plan().site("pangyo").generation(1))
    control.apply(two_sites(bench, generation=5))
    with pytest.raises(Failure, match="generation"):
        control.apply(two_sites(bench, generation=5))
    control.set_sites(site_switch(0, sequence=9, admit=0))
    with pytest.raises(Failure, match="pangyo"):
        control.apply(two_sites(bench, generation=6, verdicts=(8, 0)))
    assert all(bench.backend_of(syn(port)).startswith("10.2.") for port in range(8000, 8010))
    control.apply(two_sites(bench, generation=7, verdicts=(9, 0)))
    assert all(bench.backend_of(syn(port)).startswith("10.2.") for port in range(8000, 8010))
    assert control.hello().generation == 7


def test_a_packet_too_big_for_its_tunnel_is_answered(bench):
    control = bench.start()
    control.apply(two_sites(bench))
    big = IP(bytes(IP(src="10.9.9.9", dst=VIP, flags="DF") / TCP(sport=4100, dport=443, flags="A") / Raw(b"x" * 1440)))
    bench.send(big)
    frame, _ = bench.wire.receive(lambda f: (p := Ether(f)).haslayer(ICMP) and p[IP].dst == "10.9.9.9")
    answer = Ether(frame)
    assert (answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu) == (3, 4, 1472)
    big6 = IPv6(bytes(IPv6(src="2001:db8:9::9", dst=VIP6) / TCP(sport=4100, dport=443, flags="A") / Raw(b"x" * 1440)))
    bench.send(big6)
    frame, _ = bench.wire.receive(lambda f: Ether(f).haslayer(ICMPv6PacketTooBig))
    assert Ether(frame)[ICMPv6PacketTooBig].mtu == 1472


def test_killed_it_comes_back_from_disk_with_the_same_choices_and_no_client_is_refused(bench):
    control = bench.start()
    control.apply(two_sites(bench, generation=3))
    control.set_backends(fast_path.wire.BackendSwitch(backend=0, sequence=1, up=False, keep=True))
    packets = [syn(port) for port in range(9000, 9040)] + [segment(port) for port in range(9100, 9140)]
    before = [bench.backend_of(packet) for packet in packets]
    assert "10.1.0.11" not in before
    wait_for(lambda: (bench.folder / "state" / "switches.state").exists())
    with refusals(bench) as refused:
        bench.process.kill()
        for packet in packets:
            bench.send(packet)
        started = time.monotonic()
        control = bench.start()
        after = [bench.backend_of(packets[0])]
        took = time.monotonic() - started
        after += [bench.backend_of(packet) for packet in packets[1:]]
    assert after == before
    assert refused() == []
    hello = control.hello()
    assert hello.restored and hello.generation == 3
    assert took < RESTART_SECONDS, f"{took:.1f} s"
    print(f"forwards again {took:.2f} s after the start")
    state = control.state()
    assert state.backends[0].sequence == 1 and not state.backends[0].up


class refusals:
    """RSTs and ICMP errors from the VIP that reach the near end meanwhile."""

    def __init__(self, bench):
        self._wire = Wire(bench.pair.near, "near")

    def __enter__(self):
        return lambda: self._found

    def __exit__(self, *_):
        self._found = []
        try:
            while True:
                frame, _ = self._wire.receive(self._refuses, 0.2)
                self._found.append(Ether(frame).summary())
        except TimeoutError:
            self._wire.close()

    @staticmethod
    def _refuses(frame):
        packet = Ether(frame)
        if packet.src != Pair.FAR_MAC or not packet.haslayer(IP) or packet[IP].src not in (VIP, HOST):
            return False
        return (packet.haslayer(TCP) and "R" in packet[TCP].flags) or (
            packet.haslayer(ICMP) and packet[ICMP].type == 3)


def test_a_clean_stop_ends_at_once_and_the_next_start_takes_the_port_again(bench):
    control = bench.start()
    control.apply(two_sites(bench))
    expected = bench.backend_of(syn(4500))
    assert bench.process.stop() == 0
    assert not os.path.exists(bench.process.socket_path)
    bench.start()
    assert bench.backend_of(syn(4500)) == expected


@pytest.mark.parametrize("arguments, guarded", [((), True), (("--release",), False)])
def test_a_clean_stop_leaves_the_guard_unless_told_to_release(bench, arguments, guarded):
    control = bench.start(*arguments)
    control.apply(two_sites(bench))
    assert bench.process.stop() == 0
    filters = command("ip", "netns", "exec", bench.pair.far, "tc", "filter", "show", "dev", "far", "ingress")
    assert ("detour_guard" in filters) == guarded


def test_a_corrupt_state_is_set_aside_and_the_fast_path_starts(bench):
    control = bench.start()
    control.apply(two_sites(bench))
    assert bench.process.stop() == 0
    plan = bench.folder / "state" / "plan.state"
    plan.write_bytes(plan.read_bytes()[:-1])
    control = bench.start()
    assert not control.hello().restored
    assert (bench.folder / "state" / "plan.state.corrupt").exists()
    assert control.apply(two_sites(bench)).generation == 1


def test_a_state_folder_serves_one_fast_path(bench):
    bench.start()
    with pytest.raises(RuntimeError, match="another detour-dataplane uses it"):
        Process(bench.pair.far, bench.folder, "--port", "net_null0")


def test_a_port_needs_a_queue_for_each_worker(bench):
    with pytest.raises(RuntimeError, match="it has 1 queues, and 2 workers"):
        bench.start("--workers", "2")
    with pytest.raises(RuntimeError, match="nosuch"):
        Process(bench.pair.far, bench.folder, "--port", "nosuch")


def test_two_workers_both_take_a_plan_and_pass_a_switch(tmp_path):
    pair = Pair("dw")
    try:
        process = Process(pair.far, tmp_path, "--port", "net_ring0", "--workers", "2")
        control = Control(process.socket_path)
        assert control.hello().workers == 2
        plan = PlanBuilder(Pair.FAR_MAC, Pair.NEAR_MAC).site("pangyo")
        control.apply(plan.pool("talk", [(VIP, 443, 6)], [["10.1.0.11"]]).generation(4))
        wait_for(lambda: [w.acknowledged for w in control.stats().workers] == [4, 4])
        assert control.set_sites(site_switch(0, sequence=1, admit=0)).sites[0].applied
        wait_for(lambda: [w.scanned for w in control.stats().workers] == [4, 4], seconds=20)
        assert process.stop() == 0
    finally:
        pair.close()


def test_garbage_on_the_control_socket_harms_nothing(bench):
    control = bench.start()
    control.apply(two_sites(bench))
    for bytes_ in (b"\xff" * 8, b"\x00\x00\x00\x04\xff\xff\xff\xff", b"\x00\x00\x10\x00half"):
        stranger = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stranger.connect(bench.process.socket_path)
        stranger.sendall(bytes_)
        stranger.close()
    assert control.hello().generation == 1
    bench.backend_of(syn(4600))

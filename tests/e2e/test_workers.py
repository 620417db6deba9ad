"""Two workers on one AF_XDP port of two queues: who gets which flow, and flows that change queue in between.

The near end steers frames to the far end's queues itself, as a NIC's RSS would: a veth hands a frame to the queue by
which it was sent.
"""

import os
import sys
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "support"), str(TESTS / "bpf")]
from fast_path import Control, PlanBuilder, Process, site_switch  # noqa: E402
from netns import Pair, Wire, command  # noqa: E402

VIP = "203.0.113.10"
CLIENTS = 60


class TwoQueues(Pair):
    """The pair with two queues at each end."""

    def _build(self):
        for name in (self.near, self.far):
            command("ip", "netns", "add", name)
            command("ip", "-n", name, "link", "set", "lo", "up")
        command("ip", "-n", self.near, "link", "add", "near", "numrxqueues", "2", "numtxqueues", "2", "type", "veth",
                "peer", "name", "far", "numrxqueues", "2", "numtxqueues", "2", "netns", self.far)
        for name, device, mac in ((self.near, "near", self.NEAR_MAC), (self.far, "far", self.FAR_MAC)):
            command("ip", "netns", "exec", name, "sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1")
            command("ip", "-n", name, "link", "set", device, "address", mac, "up")
            self.offload(name, device, "off")


class Bench:
    """Two workers, a plan of two sites, and a wire whose frames go to the queue that is asked for."""

    def __init__(self, folder):
        self.pair = TwoQueues("wq")
        try:
            for queue in (0, 1):
                command("ip", "netns", "exec", self.pair.near, "sh", "-c",
                        f"echo {1 << queue} > /sys/class/net/near/queues/tx-{queue}/xps_cpus")
            command("ip", "-n", self.pair.far, "addr", "add", VIP, "dev", "lo")
            self.process = Process(self.pair.far, folder, "--port", "far", "--workers", "2")
        except BaseException:
            self.pair.close()
            raise
        self.control = Control(self.process.socket_path)
        plan = PlanBuilder(Pair.FAR_MAC, Pair.NEAR_MAC).site("pangyo").site("anyang")
        plan.pool("talk", [(VIP, 443, 6)], [[f"10.{s}.0.{b}" for b in range(11, 19)] for s in (1, 2)])
        self.control.apply(plan.generation(1))
        self.wire = Wire(self.pair.near, "near")

    def close(self):
        self.process.kill()
        self.wire.close()
        self.pair.close()

    def backend(self, packet, queue):
        """Where `packet`, sent by this queue, comes out."""
        inner = bytes(packet)
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {queue})
        try:
            self.wire.send(bytes(Ether(src=Pair.NEAR_MAC, dst=Pair.FAR_MAC) / packet))
        finally:
            os.sched_setaffinity(0, before)
        frame, _ = self.wire.receive(lambda f: f.endswith(inner) and f[6:12] == b"\2\0\0\0\0\2", 10.0)
        return Ether(frame)[IP].dst

    def forwarded(self):
        """By worker: all packets that it sent to a backend, reasons 0 to 4 of counters.h."""
        return [sum(row.value for row in worker.counters if row.reason <= 4) for worker in self.control.stats().workers]


@pytest.fixture
def bench(tmp_path):
    assert len(os.sched_getaffinity(0)) >= 2, "the queue of a frame is that of its sender's CPU: two are needed"
    made = Bench(tmp_path)
    try:
        yield made
    finally:
        made.close()


def packet(client, flags, data=b""):
    inner = IP(src=f"10.9.9.{client + 1}", dst=VIP) / TCP(
        sport=20000 + client, dport=443, flags=flags, seq=1000 if flags == "S" else 1001, ack=0 if flags == "S" else 5001)
    return IP(bytes(inner / Raw(data) if data else inner))


def establish(bench, queue):
    """All clients by one queue; the backend of each."""
    backends = []
    for client in range(CLIENTS):
        first = bench.backend(packet(client, "S"), queue)
        assert bench.backend(packet(client, "A"), queue) == first
        backends.append(first)
    return backends


def error_about(client):
    """Fragmentation needed, from a router on the client's way, quoting an answer of the backend."""
    quoted = IP(src=VIP, dst=f"10.9.9.{client + 1}") / TCP(sport=443, dport=20000 + client, flags="A", seq=5001)
    return IP(bytes(IP(src="10.7.7.7", dst=VIP) / ICMP(type=3, code=4, nexthopmtu=1300) / Raw(bytes(quoted)[:28])))


def test_each_queue_has_its_worker(bench):
    establish(bench, queue=0)
    assert [count > 0 for count in bench.forwarded()] == [True, False]
    for client in range(CLIENTS):
        bench.backend(packet(client, "S", b"x"), 1)
    assert all(bench.forwarded())


def test_flows_that_change_worker_stay_where_they_were(bench):
    """RSS that is not symmetric, or changes: the other worker has no entry and chooses by admit_mid."""
    backends = establish(bench, queue=0)
    assert len(set(backends)) > 8
    for client in range(CLIENTS):
        assert bench.backend(packet(client, "PA", b"there"), 1) == backends[client]
    # In the middle of a drain, too: mid-flow packets go where they went before it began.
    bench.control.set_sites(site_switch(0, sequence=1, admit=20000, admit_mid=65535))
    for client in range(CLIENTS):
        assert bench.backend(packet(client, "PA", b"and back"), client % 2) == backends[client]


def test_errors_find_the_flow_in_another_workers_table(bench):
    """Its site takes nothing that it does not know any more, so only the table says where the flow is."""
    backends = establish(bench, queue=0)
    bench.control.set_sites(site_switch(0, sequence=1, admit=0, admit_mid=0))
    moved = 0
    for client in range(CLIENTS):
        assert bench.backend(error_about(client), 1) == backends[client]
        moved += backends[client].startswith("10.1.")
    assert moved > CLIENTS // 6, "of them, flows that are not where a new choice would put them"

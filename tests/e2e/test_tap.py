"""The kernel's end of a port that DPDK owns whole: the TAP interface beside it.

The port is a ring that gives back every frame it is given, so what the kernel sends comes back as received. Real NICs,
real clients: the suite `vm`.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "support"), str(TESTS / "bpf")]
from fast_path import Control, Process  # noqa: E402
from netns import Wire, command  # noqa: E402

TAP = "detour0"
MAC = "02:00:00:00:00:07"


@pytest.fixture
def namespace():
    name = f"tap{os.getpid()}"
    command("ip", "netns", "add", name)
    # Nothing of the kernel's own on the wire.
    command("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    try:
        yield name
    finally:
        command("ip", "netns", "del", name, check=False)


@pytest.fixture
def start(namespace, tmp_path):
    running = []

    def run(*arguments, port="net_ring0"):
        running.append(Process(namespace, tmp_path, "--port", port, *arguments))
        return running[-1]
    yield run
    for process in running:
        if process.alive:
            process.kill()


def link(namespace):
    return command("ip", "-n", namespace, "-o", "link", "show", TAP)


def exists(namespace):
    return subprocess.run(["ip", "-n", namespace, "link", "show", TAP], capture_output=True).returncode == 0


def wait_for(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def dropped(namespace):
    return int(command("ip", "netns", "exec", namespace, "cat", f"/sys/class/net/{TAP}/statistics/tx_dropped"))


def frame(number, size=100):
    """To ourselves, of an EtherType that nobody serves."""
    head = bytes.fromhex(MAC.replace(":", "")) * 2 + b"\x88\xb5" + number.to_bytes(4, "big")
    return head + b"x" * (size - len(head))


def figures(process):
    control = Control(process.socket_path)
    try:
        row = control.stats().ports[0]
        return row.kernel_received, row.kernel_sent, row.kernel_lost
    finally:
        control.close()


def test_frames_pass_both_ways_whole(namespace, start):
    process = start()
    wait_for(lambda: "LOWER_UP" in link(namespace))
    wire = Wire(namespace, TAP)
    try:
        for number, size in enumerate((60, 61, 1000, 1514)):
            wire.send(frame(number, size))
            got, _ = wire.receive(lambda f, n=number: f[12:18] == frame(n)[12:18])
            assert got == frame(number, size)
        wire.send(frame(9, 18))
        got, _ = wire.receive(lambda f: f[12:18] == frame(9)[12:18])
        assert got == frame(9, 18) + bytes(42), "short frames are filled up to Ethernet's least"
    finally:
        wire.close()
    wait_for(lambda: figures(process) == (5, 5, 0))


def test_a_flood_from_the_kernel_is_limited_and_nothing_is_lost_uncounted(namespace, start):
    """What is beyond the budget waits in the interface's queue, and when that is full the kernel drops it."""
    process = start()
    wait_for(lambda: "LOWER_UP" in link(namespace))
    wire = Wire(namespace, TAP)
    before = figures(process)
    count = 40_000
    try:
        begun = time.monotonic()
        for number in range(count):
            wire.send(frame(number))
        wait_for(lambda: figures(process)[1] - before[1] + dropped(namespace) == count)
        took = time.monotonic() - begun
    finally:
        wire.close()
    sent = figures(process)[1] - before[1]
    # 100,000 a second, and a tenth of a second's worth at once.
    assert sent <= 100_000 * took * 1.1 + 10_000
    assert sent >= 1_000, "the interface's queue alone holds as many"
    # The way is open again.
    wire = Wire(namespace, TAP)
    wire.send(frame(count))
    wire.receive(lambda f: f[12:18] == frame(count)[12:18])
    wire.close()


def test_the_interface_outlives_the_process_with_its_addresses(namespace, start):
    process = start()
    command("ip", "-n", namespace, "addr", "add", "192.0.2.7/24", "dev", TAP)
    before = link(namespace).split(":")[0]
    wait_for(lambda: "LOWER_UP" in link(namespace))
    process.kill()
    wait_for(lambda: "NO-CARRIER" in link(namespace))
    process = start()
    wait_for(lambda: "LOWER_UP" in link(namespace))
    assert link(namespace).split(":")[0] == before, "the same interface"
    assert "192.0.2.7/24" in command("ip", "-n", namespace, "addr", "show", TAP)
    assert process.stop() == 0
    assert exists(namespace)


def test_release_takes_the_interface_away(namespace, start):
    process = start("--release")
    assert exists(namespace)
    assert process.stop() == 0
    assert not exists(namespace)


def test_one_that_was_made_before_is_used(namespace, start):
    command("ip", "-n", namespace, "tuntap", "add", TAP, "mode", "tap")
    command("ip", "-n", namespace, "addr", "add", "192.0.2.7/24", "dev", TAP)
    start()
    wait_for(lambda: "LOWER_UP" in link(namespace))
    assert "192.0.2.7/24" in command("ip", "-n", namespace, "addr", "show", TAP)


def test_one_that_is_deleted_comes_back(namespace, start):
    process = start()
    wait_for(lambda: "LOWER_UP" in link(namespace))
    command("ip", "-n", namespace, "link", "del", TAP)
    wait_for(lambda: exists(namespace) and "LOWER_UP" in link(namespace))
    assert process.alive


def test_a_name_that_is_taken_is_refused_with_the_reason(namespace, start, tmp_path):
    command("ip", "-n", namespace, "link", "add", TAP, "type", "veth", "peer", "name", "other")
    with pytest.raises(RuntimeError, match=f"{TAP}: an interface of this name exists and is no TAP"):
        start()
    command("ip", "-n", namespace, "link", "del", TAP)
    start()
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(RuntimeError, match=f"{TAP}: another process holds it"):
        Process(namespace, other, "--port", "net_ring1")


def test_a_device_that_opens_an_interface_leaves_the_kernel_its_own(namespace, start):
    command("ip", "-n", namespace, "link", "add", "near", "type", "veth", "peer", "name", "far")
    command("ip", "-n", namespace, "link", "set", "far", "up")
    start(port="net_af_packet0,iface=far")
    assert not exists(namespace)

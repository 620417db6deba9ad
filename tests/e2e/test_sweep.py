"""Clients of a dark site that send nothing: reset at a set pace, whatever their own stack knows, and back elsewhere."""
import contextlib
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from capture import ACK, RST, PopCapture, most_in_a_second
from conftest import lab_name
from load import load
from netlab.lab import Lab
from netlab.processes import wait_for
from netlab.topology import VIP4, VIP6

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from fast_path import Control  # noqa: E402

IDLE, PACE, PROCESSES = 20_000, 2_000, 2
DARK, OTHERS = "pangyo", ("anyang", "chuncheon")
STRAND_AFTER = 2.0


@pytest.fixture(scope="module")
def lab():
    # Large enough that no flow is evicted: one that is not remembered can't be found.
    with Lab(lab_name("sweep"), rtt_ms=20, failover={"ramp": "1s", "strand_after": f"{STRAND_AFTER:g}s"},
             dataplane_args=["--flows-per-worker", "262144"]) as running:
        yield running


@pytest.fixture(autouse=True)
def settled(lab):
    """Each test begins with the dark site alone admitting, so that its clients are there, and leaves all healthy."""
    for name in OTHERS:
        lab.lbctl("drain", name, "--for", "10m", "--reason", "test")
    yield
    lab.restore(DARK)
    for name in (DARK, *OTHERS):
        lab.lbctl("undrain", name, check=False)
    wait_for("all sites healthy and admitted", lambda: all(admitted(lab, n) for n in (DARK, *OTHERS)), 60)


def sites(lab):
    return {s["name"]: s for s in lab.lbctl_json("sites")}


def admitted(lab, name):
    state = sites(lab)[name]
    return state["verdict"] == "healthy" and state["admit"] >= 1.0


def open_the_others(lab):
    for name in OTHERS:
        lab.lbctl("undrain", name)
    wait_for("the other sites admitted", lambda: all(admitted(lab, n) for n in OTHERS), 30)


def swept(lab):
    """What the sweep did since the fast path started, all workers."""
    control = Control(str(lab.dir / "dataplane.sock"))
    try:
        total = Counter()
        for worker in control.stats().workers:
            for field, value in worker.sweep.ListFields():
                total[field.name] += value
        return total
    finally:
        control.close()


def difference(lab, before):
    now = swept(lab)
    return {name: now[name] - before[name] for name in now}


class Session:
    """A keep-alive HTTP connection to the dark site."""

    def __init__(self, lab, address=VIP4, path="/"):
        self.socket = lab.connect("client", address, 80)
        self.socket.settimeout(20)
        self.port = self.socket.getsockname()[1]
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(1)
        assert f"X-Site: {DARK}".lower().encode() in head.lower()

    def read_all_there_is(self):
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self.socket.recv(65536):
                pass
        self.socket.settimeout(20)

    def wait_for_reset(self):
        """Reads, and sends nothing, until the connection is reset; the moment."""
        with pytest.raises(ConnectionResetError):
            while self.socket.recv(65536):
                pass
        return time.time()


# ---- the pace ----

class IdleClients:
    """The load generator's idle clients, from two processes: one may not have so many descriptors."""

    def __init__(self, lab):
        self.files = [lab.dir / f"idle{part}.jsonl" for part in range(PROCESSES)]
        self.processes = [lab.popen("client", self.command(lab, part), stdout=subprocess.PIPE, text=True)
                          for part in range(PROCESSES)]

    def command(self, lab, part):
        first = 1 + part * 100
        return [lab.program("netlab-loadgen"), "--target", f"{VIP4}:80", "--target", f"[{VIP6}]:80",
                "--source", f"198.18.1.{first}", "--source", f"2001:db8:c:1::{first:x}", "--source-count", "100",
                "--idle", str(IDLE // PROCESSES), "--idle-rate", "1000", "--report", "100",
                "--out", str(self.files[part])]

    def answered(self):
        """How many hold a connection that was answered, as they next report it, and when they all have said so."""
        reports = [json.loads(process.stdout.readline()) for process in self.processes]
        return sum(r["idle_answered"] for r in reports), min(r["time_ns"] for r in reports) / 1e9

    def wait_until_answered(self, seconds):
        deadline = time.monotonic() + seconds
        while (count := self.answered()[0]) < IDLE:
            assert time.monotonic() < deadline, f"{count} of {IDLE} idle clients have an answer"

    def stop(self):
        """What they logged; a slot of its own for each client."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.communicate(timeout=60)
        rows = []
        for part, file in enumerate(self.files):
            rows += [{**json.loads(line), "part": part} for line in file.read_text().splitlines()]
        return rows


def first_answers(rows, after):
    """By client: when it was answered on the connection that it made after the dark site's."""
    times = {}
    for row in rows:
        if row["start_ns"] / 1e9 > after and row["first_us"] is not None:
            at = (row["start_ns"] + row["first_us"] * 1000) / 1e9
            client = (row["part"], row["slot"])
            times[client] = min(at, times.get(client, at))
    return times


def test_twenty_thousand_idle_clients_come_back_at_the_set_pace(lab):
    clients = IdleClients(lab)
    try:
        clients.wait_until_answered(120)
        open_the_others(lab)
        before = swept(lab)
        capture = PopCapture(lab)
        cut = lab.darken(DARK).before_ns / 1e9
        deadline = time.monotonic() + 60
        while difference(lab, before).get("resets", 0) < IDLE and time.monotonic() < deadline:
            capture.read(0.3)
        told = time.time()
        while time.monotonic() < deadline:
            capture.read(0.1)
            count, at = clients.answered()
            if count == IDLE and at > told:
                break
        capture.read(0.5)
        capture.close()
        did = difference(lab, before)
    finally:
        rows = clients.stop()
    resets = [s.time for s in capture.segments if s.flags & RST]
    first = min(resets)
    back = first_answers(rows, cut)
    most = most_in_a_second(resets)
    last = max(back.values())
    print(f"first reset {first - cut:.3f} s after the cut; {len(resets)} resets, at most {most} in a second; "
          f"last client back {last - first:.3f} s after the first reset, {last - cut:.3f} s after the cut; {did}")
    assert len(back) == IDLE
    assert {r["site"] for r in rows if r["start_ns"] / 1e9 > cut and r["site"]} <= set(OTHERS)
    # From the power cut itself: the probes' verdict and strand_after are in it, and 20,000 at 2,000 a second take 10 s.
    assert last - cut < 15
    # In whatever second one looks, and none was missed by looking.
    assert len(resets) >= did["resets"] >= IDLE
    assert most <= PACE * 1.1
    assert first - cut > STRAND_AFTER
    assert did["answered"] > 0.99 * IDLE  # the client's own stack said that the RST was taken


# ---- what the client's stack knows ----

def block_acks(lab, block):
    """Drops what the clients send towards the PoP, on the router before it."""
    if block:
        lab.exec("internet", ["nft", "add table inet acks; add chain inet acks f { type filter hook forward priority 0; }; "
                              f"add rule inet acks f ip daddr {VIP4} counter drop; "
                              f"add rule inet acks f ip6 daddr {VIP6} counter drop"])
    else:
        lab.exec("internet", ["nft", "delete table inet acks"])


def dropped(lab):
    rules = json.loads(lab.exec("internet", ["nft", "-j", "list", "table", "inet", "acks"]).stdout)["nftables"]
    return sum(e["counter"]["packets"] for r in rules if "rule" in r for e in r["rule"]["expr"] if "counter" in e)


@pytest.mark.parametrize("timestamps", [1, 0])
@pytest.mark.parametrize("address", [VIP4, VIP6])
def test_a_client_whose_last_acks_were_lost_is_reset_from_its_own_answer(lab, address, timestamps):
    lab.exec("client", ["sysctl", "-qw", f"net.ipv4.tcp_timestamps={timestamps}"])
    before = swept(lab)
    downloads = [Session(lab, address, "/stream") for _ in range(5)]
    open_the_others(lab)
    capture = PopCapture(lab)
    for session in downloads:
        session.read_all_there_is()
    block_acks(lab, True)
    try:
        # The server writes some KiB a second. What comes now is acknowledged in vain.
        for session in downloads:
            assert session.socket.recv(65536)
        lab.darken(DARK)
        capture.read(0.5)  # what is on its way to the clients is acknowledged in vain too
    finally:
        block_acks(lab, False)
    started = time.time()
    for session in downloads:
        assert session.wait_for_reset() - started < 15
    capture.read(0.2)
    capture.close()
    lab.exec("client", ["sysctl", "-qw", "net.ipv4.tcp_timestamps=1"])
    ports = {s.port for s in downloads}
    by_port = {p: [s for s in capture.segments if s.port == p] for p in ports}
    for port, segments in by_port.items():
        # The sweep's RST and ACK, then the RST that answers the client's exact number, which is above.
        assert [s.flags for s in segments[:2]] == [RST, ACK], (port, segments)
        assert segments[1].sequence == (segments[0].sequence - 1) % (1 << 32)
        exact = [s for s in segments[2:] if s.flags == RST]
        assert exact and exact[0].sequence != segments[0].sequence
    assert difference(lab, before)["resets"] == len(downloads)


def test_clients_that_left_unheard_are_asked_once_and_left_alone(lab):
    before = swept(lab)
    gone = [Session(lab, VIP4) for _ in range(10)]
    open_the_others(lab)
    block_acks(lab, True)
    try:
        for session in gone:
            session.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            session.socket.close()
        wait_for("their resets to be lost", lambda: dropped(lab) >= len(gone), 10)
    finally:
        block_acks(lab, False)
    lab.darken(DARK)
    wait_for("answers of those who left", lambda: difference(lab, before).get("answered", 0) == len(gone), 20)
    assert difference(lab, before)["resets"] == len(gone)
    assert difference(lab, before).get("repeated", 0) == 0

"""A site dies, is drained, hiccups, comes back; Detour's own processes die: what clients see of it."""
import json
import random
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from conftest import lab_name
from load import load
from netlab.lab import Lab
from netlab.processes import wait_for
from netlab.topology import VIP4, VIP6

SITES = ("pangyo", "anyang", "chuncheon")


@pytest.fixture(scope="module")
def lab():
    with Lab(lab_name("fo"), rtt_ms=20, failover={"ramp": "1s"}) as running:
        yield running


@pytest.fixture(autouse=True)
def settled(lab):
    """Each test starts with every site healthy and fully admitted, and must leave it so that the next one can."""
    yield
    for site in SITES:
        lab.restore(site)
        lab.lbctl("undrain", site, check=False)
    wait_for("all sites healthy and admitted", lambda: all(healthy(lab, site) for site in SITES), 30)


def site(lab, name):
    return next(s for s in lab.lbctl_json("sites") if s["name"] == name)


def events(lab, after=0):
    """Those with a sequence number above `after`."""
    rows = [json.loads(line) for line in lab.lbctl("events", "--output", "json").stdout.splitlines()]
    return [row for row in rows if row["sequence"] > after]


def last_event(lab):
    return max((row["sequence"] for row in events(lab)), default=0)


def happened(lab, after, kind, site_name=None):
    return any(e["kind"] == kind and e.get("site") == site_name for e in events(lab, after))


def generation(lab):
    return lab.lbctl_json("status")["dataplane"]["generation"]


def healthy(lab, name):
    state = site(lab, name)
    return state["verdict"] == "healthy" and state["admit"] >= 1.0


def verdict_is(lab, name, verdict, seconds=10):
    wait_for(f"{name} {verdict}", lambda: site(lab, name)["verdict"] == verdict, seconds)


class Session:
    """A keep-alive HTTP connection."""

    def __init__(self, lab, address=VIP4):
        self.socket = lab.connect("client", address, 80)
        self.socket.settimeout(10)
        self.source = self.socket.getsockname()
        self.address = address
        self.site = self.ask()

    def ask(self, path="/"):
        """One request on this connection; the site that answered. ConnectionResetError when it was reset."""
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        text = b""
        while b"\r\n\r\n" not in text:
            text += self.receive()
        head, body = text.split(b"\r\n\r\n", 1)
        length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
        while len(body) < length:
            body += self.receive()
        return re.search(rb"(?i)x-site: (\S+)", head).group(1).decode()

    def receive(self):
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionAbortedError("closed by the server")
        return data

    def close(self):
        self.socket.close()


def sessions(lab, count):
    return [Session(lab, (VIP4, VIP6)[i % 2]) for i in range(count)]


def predictions(lab, flows):
    """[(source address, port, vip address)] -> the site that the plan places each on."""
    text = {"flows": [{"source": f"{a}:{p}" if ":" not in a else f"[{a}]:{p}",
                       "vip": f"{v}:80/tcp" if ":" not in v else f"[{v}]:80/tcp"} for a, p, v in flows]}
    path = lab.dir / "flows.json"
    path.write_text(json.dumps(text))
    return [row["site"] for row in lab.lbctl_json("trace", "--file", str(path))]


# ---- forwarding ----

def test_what_trace_predicts_is_what_happens(lab):
    made = sessions(lab, 40)
    flows = [(s.source[0], s.source[1], s.address) for s in made]
    assert predictions(lab, flows) == [s.site for s in made]
    assert {s.site for s in made} == set(SITES)


def test_udp_is_served_over_both_families(lab):
    for vip in (VIP4, VIP6):
        assert lab.udp_echo(vip, b"hello").endswith(b" hello")


def test_the_kernel_keeps_all_that_is_not_a_vip(lab):
    with load(lab, rate=100) as result:
        for _ in range(5):
            for address in ("10.8.0.2", VIP4, "2001:db8:8::2", VIP6):
                with lab.connect("client", address, 22) as connection:
                    assert connection.recv(100) == b"SSH-2.0-lab\r\n"
                with pytest.raises(ConnectionRefusedError):
                    lab.connect("client", address, 8099)
            for address in ("10.8.0.2", "2001:db8:8::2"):
                lab.exec("client", ["ping", "-n", "-c", "1", "-W", "2", address])
    assert not result.failed("new")


# ---- a site fails ----

def test_a_dark_site_moves_only_its_own_flows(lab):
    made = sessions(lab, 36)
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    picks = random.Random(seed)
    flows = [(f"198.18.1.{picks.randrange(1, 250)}", picks.randrange(1024, 65535), (VIP4)) for _ in range(3000)]
    before = predictions(lab, flows)
    lab.darken("pangyo")
    verdict_is(lab, "pangyo", "dark")
    for s in made:
        if s.site != "pangyo":
            assert s.ask() == s.site
    after = predictions(lab, flows)
    for was, now in zip(before, after):
        assert now == was if was != "pangyo" else now in ("anyang", "chuncheon")
    assert all(Session(lab).site != "pangyo" for _ in range(20))


def test_a_sending_client_of_a_dark_site_is_reset_and_reconnects(lab):
    made = [s for s in sessions(lab, 30) if s.site == "pangyo"]
    assert made
    before = last_event(lab)
    lab.darken("pangyo")
    wait_for("pangyo's flows stranded", lambda: happened(lab, before, "strand", "pangyo"), 10)
    for s in made:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(20):
                s.ask()
    assert Session(lab).site != "pangyo"


def test_a_blackhole_of_one_second_resets_no_connection(lab):
    made = sessions(lab, 36)
    where = [s.site for s in made]
    for name in SITES[:2]:
        cut = time.monotonic()
        lab.darken(name)
        time.sleep(max(0.0, 1.0 - (time.monotonic() - cut)))  # the length of the blackhole is what is tested
        lab.restore(name)
        assert [s.ask() for s in made] == where
    assert [s.ask() for s in made] == where


def test_every_new_connection_works_within_two_seconds_of_a_power_cut(lab):
    with load(lab, rate=200) as result:
        cut = lab.darken("pangyo")
        verdict_is(lab, "pangyo", "dark")
        deadline = cut.after_ns + 3_000_000_000
        wait_for("three seconds after the cut", lambda: time.time_ns() > deadline, 10)
    late = [r for r in result.of("new") if r["start_ns"] > cut.before_ns + 2_000_000_000]
    assert len(late) > 100
    slow = [r for r in late if r["result"] != "ok" or r["connect_us"] > 270_000]
    assert not slow, slow[:3]


# ---- drains ----

def test_a_drain_and_the_ramp_back_fail_no_request(lab):
    with load(lab, rate=500, long_lived=30) as result:
        assert lab.lbctl("drain", "anyang", "--for", "10m", "--reason", "test").returncode == 0
        wait_for("anyang to take no new flow", lambda: site(lab, "anyang")["admit"] == 0, 10)
        drained_ns = time.time_ns()
        wait_for("some new connections", lambda: time.time_ns() > drained_ns + 2_000_000_000, 10)
        undrain_ns = time.time_ns()
        lab.lbctl("undrain", "anyang")
        wait_for("anyang back", lambda: healthy(lab, "anyang"), 20)
    assert not result.failed("new"), result.failed("new")[:3]
    assert not result.failed("sending", "waiting", "downloading")
    during = [r for r in result.of("new") if drained_ns < r["start_ns"] < undrain_ns]
    assert len(during) > 300 and all(r["site"] != "anyang" for r in during)


def test_a_drain_keeps_established_connections(lab):
    made = sessions(lab, 30)
    lab.lbctl("drain", "anyang")
    wait_for("anyang to take no new flow", lambda: site(lab, "anyang")["admit"] == 0, 10)
    assert [s.ask() for s in made] == [s.site for s in made]
    assert all(s.site != "anyang" for s in sessions(lab, 20))


def test_a_drain_below_min_sites_is_refused_by_the_rail(lab):
    lab.lbctl("drain", "pangyo")
    lab.lbctl("drain", "anyang")
    refused = lab.lbctl("drain", "chuncheon", check=False)
    assert refused.returncode == 3
    assert "min_sites" in refused.stderr and "--force" in refused.stderr


# ---- Detour's own failures ----

def test_killing_the_control_process_fails_no_request_and_it_comes_back_changing_nothing(lab):
    lab.lbctl("drain", "anyang", "--reason", "kept over a restart")
    before, mark = generation(lab), last_event(lab)
    with load(lab, rate=200, long_lived=12) as result:
        lab.signal("control", signal.SIGKILL)
        wait_for("control gone", lambda: not lab.alive("control"), 5)
        assert lab.request(VIP4).status == 200
        lab.restart("control")
        wait_for("control answers", lambda: lab.lbctl("status", check=False).returncode == 0, 10)
        wait_for("control has adopted", lambda: happened(lab, mark, "adopted"), 10)
        time.sleep(1.5)  # several probe rounds: nothing may change
        after = generation(lab)
    assert not result.failed("new") and not result.failed("sending", "waiting", "downloading")
    assert after == before
    state = site(lab, "anyang")
    assert (state["verdict"], state["admit"]) == ("drained", 0)
    assert not [e for e in events(lab, mark) if e["kind"] in ("switch", "strand") or
                (e["kind"] == "verdict" and e["data"]["from"] != "unknown")]


class Sniffer:
    """RSTs and ICMP errors that reach the client, by the addresses in them."""

    def __init__(self, lab):
        self.raw = lab.socket("client", socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.raw.settimeout(0.2)
        self.found = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stop.is_set():
            try:
                frame, where = self.raw.recvfrom(2048)
            except TimeoutError:
                continue
            if where[2] != socket.PACKET_OUTGOING:
                self.look(frame)

    def look(self, frame):
        kind = struct.unpack("!H", frame[12:14])[0]
        protocol, at = (frame[23], 14 + 4 * (frame[14] & 15)) if kind == 0x0800 else (frame[20], 54)
        if kind not in (0x0800, 0x86DD):
            return
        if protocol == 6 and frame[at + 13] & 4:
            self.found.append(("rst", frame.hex()))
        if (protocol == 1 and frame[at] in (3, 11)) or (protocol == 58 and frame[at] < 128):
            self.found.append(("icmp", frame.hex()))

    def close(self):
        self.stop.set()
        self.thread.join()
        self.raw.close()
        return self.found


@pytest.mark.parametrize("control_dead", [False, True])
def test_killing_the_fast_path(lab, control_dead):
    """Back within 3 s with the same choices; meanwhile no reset and no unreachable; from its own disk when it must."""
    made = sessions(lab, 24)
    if control_dead:
        lab.signal("control", signal.SIGKILL)
        wait_for("control gone", lambda: not lab.alive("control"), 5)
    sniffer = Sniffer(lab)
    try:
        lab.signal("dataplane", signal.SIGKILL)
        wait_for("the fast path gone", lambda: not lab.alive("dataplane"), 5)
        for vip in (VIP4, VIP6):
            with pytest.raises(TimeoutError):  # silence, not a refusal
                lab.connect("client", vip, 80, timeout=0.5)
        started = time.monotonic()
        lab.restart("dataplane")
        wait_for("new connections", lambda: reachable(lab), 10)
        took = time.monotonic() - started
        assert [s.ask() for s in made] == [s.site for s in made]
    finally:
        found = sniffer.close()
        if control_dead:
            lab.restart("control")
    assert not found, found[:3]
    assert took < 3
    wait_for("control answers", lambda: lab.lbctl("status", check=False).returncode == 0, 10)


def reachable(lab):
    try:
        with lab.connect("client", VIP4, 80, timeout=0.3):
            return True
    except OSError:
        return False


# ---- the configuration ----

def reload(lab, text):
    lab.write_config(text)
    return lab.lbctl("reload", check=False)


def blocks(text):
    """The TOML file's tables as text, and how they start."""
    parts = re.split(r"(?m)^(?=\[)", text)
    return [p for p in parts if p.strip()]


def reordered(text):
    """Sites and pools in reverse order, backends of a pool too; pools renamed, and sites, which keep their keys."""
    text = re.sub(r'(?m)^site = "', 'site = "other-', text)
    singles, sites, pools = [], [], []
    for part in blocks(text):
        if part.startswith("[[site]]"):
            sites.append(re.sub(r'name = "(.*)"', r'name = "other-\1"\nkey = "\1"', part))
        elif part.startswith("[[pool]]"):
            pools.append([part])
        elif part.startswith("[[pool.backend]]"):
            pools[-1].append(part)
        else:
            singles.append(part)
    turned = [[p[0].replace('name = "', 'name = "other-')] + p[:0:-1] for p in reversed(pools)]
    return "\n".join(sites[::-1] + singles[::-1] + [b for pool in turned for b in pool])


def test_reordering_and_renaming_moves_no_flow_new_or_old(lab):
    original = lab.config_text()
    made = sessions(lab, 24)
    picks = random.Random(7)
    flows = [(f"198.18.1.{picks.randrange(1, 250)}", picks.randrange(1024, 65535), VIP4) for _ in range(2000)]
    before = predictions(lab, flows)
    try:
        done = reload(lab, reordered(original))
        assert done.returncode == 0, done.stderr
        wait_for("the new names", lambda: any(
            p["name"] == "other-web" for p in lab.lbctl_json("pools")), 10)
        assert [s.ask() for s in made] == [s.site for s in made]
        assert predictions(lab, flows) == [f"other-{name}" for name in before]
        again = sessions(lab, 20)
        predicted = predictions(lab, [(s.source[0], s.source[1], s.address) for s in again])
        assert [f"other-{s.site}" for s in again] == predicted
    finally:
        assert reload(lab, original).returncode == 0


def test_a_bad_file_is_refused_and_what_runs_goes_on(lab):
    original = lab.config_text()
    before = generation(lab)
    try:
        bad = original.replace("weight = 100", "weight = 70000", 1)
        line = next(i for i, text in enumerate(bad.splitlines(), start=1) if "70000" in text)
        refused = reload(lab, bad)
        assert refused.returncode == 2
        assert f":{line}:10:" in refused.stderr, refused.stderr
        assert generation(lab) == before
        assert Session(lab).site in SITES
    finally:
        assert reload(lab, original).returncode == 0


# ---- what is on the wire ----

def test_tshark_finds_every_encapsulated_packet_well_formed(lab):
    path = lab.dir / "tunnel.pcap"
    capture = lab.popen("backbone", ["tcpdump", "-i", "any", "-U", "-w", str(path), "-c", "400", "udp", "port", "6080"],
                        stderr=subprocess.PIPE, text=True)
    assert "listening" in capture.stderr.readline() + capture.stderr.readline()
    with load(lab, rate=100):
        capture.wait(timeout=30)
    capture.stderr.close()
    fields = subprocess.run(
        ["tshark", "-r", str(path), "-d", "udp.port==6080,ip", "-o", "ip.check_checksum:TRUE", "-T", "fields", "-E", "separator=|",
         "-e", "frame.protocols", "-e", "ip.checksum.status", "-e", "_ws.malformed", "-e", "_ws.expert.severity"],
        capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(fields) == 400
    for row in fields:
        protocols, checksums, malformed, _ = row.split("|")
        assert protocols.count(":ip") == 2 or ":ipv6" in protocols, row
        assert protocols.endswith("tcp") or "tcp:" in protocols, row
        assert "0" not in checksums.split(","), row
        assert malformed == "", row

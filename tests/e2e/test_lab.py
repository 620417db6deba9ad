"""The lab itself, without Detour in it: what the other end-to-end tests and the demo stand on."""
import json
import signal
import subprocess
import sys
import time

import pytest

from conftest import REPOSITORY, lab_name, leftovers
from netlab import processes
from netlab.lab import Lab
from netlab.topology import VIP4, VIP6

COMMAND = str(REPOSITORY / "tools" / "lab")
RTT = 0.050


@pytest.fixture(scope="module")
def lab():
    with Lab(lab_name("lab"), detour=False, rtt_ms=RTT * 1000) as running:
        yield running


def backends(lab, *kinds):
    return [n for n in lab.topology.nodes.values() if n.kind in kinds]


def test_every_backend_answers_clients_directly_over_both_families(lab):
    for node in backends(lab, "backend", "gateway", "server"):
        for address in (node.v4, node.v6):
            for port in (80, 443):
                answer = lab.request(address, port)
                assert (answer.status, answer.site) == (200, node.site), (node.name, address, port)


def test_a_gateway_spreads_over_unmodified_servers_and_translates_back(lab):
    gateway = lab.topology.nodes["chuncheon-gw"]
    for address in (gateway.v4, gateway.v6):
        seen = {lab.request(address).backend for _ in range(24)}
        assert seen == {"chuncheon-1", "chuncheon-2"}
    assert lab.udp_echo(gateway.v4, b"ping").endswith(b" ping")


def test_the_pop_reaches_every_backend_by_the_backbone(lab):
    for node in backends(lab, "backend", "gateway"):
        for address in (node.v4, node.v6):
            answer = lab.request(address, path="/healthz", node="pop")
            assert answer.status == 200
            assert answer.local[0] in ("10.8.1.2", "2001:db8:8:1::2")


def test_vip_packets_arrive_at_the_pops_outer_interface(lab):
    before = interface_packets(lab, "eth0")
    for vip in (VIP4, VIP6):
        with pytest.raises(ConnectionRefusedError):  # without Detour its kernel owns the port
            lab.request(vip)
    assert interface_packets(lab, "eth0") >= before + 2


def interface_packets(lab, device):
    links = json.loads(lab.exec("pop", ["ip", "-s", "-j", "link", "show", device]).stdout)
    return links[0]["stats64"]["rx"]["packets"]


def test_the_pop_host_answers_ssh_and_ping_on_its_own_and_the_vips_address(lab):
    for address in ("10.8.0.2", VIP4, "2001:db8:8::2", VIP6):
        with lab.connect("client", address, 22) as connection:
            assert connection.recv(100) == b"SSH-2.0-lab\r\n"
        lab.exec("client", ["ping", "-n", "-c", "1", "-W", "2", address])


def test_a_round_trip_takes_what_was_asked_for(lab):
    times = sorted(lab.request("10.1.0.11").connect_s for _ in range(9))
    assert RTT * 0.98 <= times[0]
    assert times[4] < RTT * 2
    lab.delay(200)
    try:
        assert lab.request("10.1.0.11").connect_s >= 0.196
    finally:
        lab.delay(RTT * 1000)


def test_any_address_of_the_clients_networks_is_a_source(lab):
    for address, source in (("10.1.0.11", "198.18.1.250"), ("2001:db8:1:2::12", "2001:db8:c:1::fa")):
        assert lab.request(address, source=(source, 12345)).local == (source, 12345)


def test_a_large_upload_arrives_whole(lab):
    answer = lab.request("10.1.0.11", path="/upload", method="POST", body=bytes(10_000_000), timeout=30)
    assert b"received 10000000" in answer.body


def unreachables(lab, node):
    """ICMP destination-unreachable messages that a node's kernel has received."""
    text = lab.exec(node, ["cat", "/proc/net/snmp"]).stdout.splitlines()
    names, values = [line.split() for line in text if line.startswith("Icmp:")]
    return int(values[names.index("InDestUnreachs")])


def test_darken_is_silence_and_restore_heals(lab):
    before = unreachables(lab, "client")
    established = lab.connect("client", "10.1.0.11", 80)
    now = time.time_ns()
    cut = lab.darken("pangyo")
    assert now <= cut.before_ns <= cut.after_ns <= time.time_ns()
    try:
        for node in ("client", "pop"):
            for address in ("10.1.0.11", "2001:db8:1:1::12"):
                with pytest.raises(TimeoutError):
                    lab.request(address, node=node, timeout=0.6)
        established.settimeout(0.6)
        established.sendall(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")
        with pytest.raises(TimeoutError):
            established.recv(1)
        assert lab.request("10.2.0.11").site == "anyang"
        assert unreachables(lab, "client") == before
        carrier = json.loads(lab.exec("backbone", ["ip", "-j", "link", "show", "pangyo"]).stdout)[0]
        assert "LOWER_UP" in carrier["flags"]
    finally:
        lab.restore("pangyo")
    established.settimeout(10)
    assert established.recv(12) == b"HTTP/1.1 200"  # by the kernel's own retransmission
    established.close()
    assert lab.request("10.1.0.11").site == "pangyo"


def test_one_link_of_a_site_can_be_cut_alone(lab):
    lab.darken("anyang", "internet")
    try:
        assert lab.request("10.2.0.11", node="pop").site == "anyang"
        with pytest.raises(TimeoutError):
            lab.request("10.2.0.11", timeout=0.6)
    finally:
        lab.restore("anyang", "internet")
    lab.darken("anyang", "backbone")
    try:
        assert lab.request("10.2.0.11").site == "anyang"
        with pytest.raises(TimeoutError):
            lab.request("10.2.0.11", node="pop", timeout=0.6)
    finally:
        lab.restore("anyang", "backbone")
    assert lab.request("10.2.0.11", node="pop").site == "anyang"


def pings_lost(lab, address, count=150):
    done = lab.exec("client", ["ping", "-n", "-q", "-i", "0.005", "-W", "1", "-c", str(count), address], check=False)
    received = int(done.stdout.split(" received")[0].split()[-1])
    return count - received


@pytest.mark.parametrize("link", ["client", "pangyo-internet"])
def test_loss_loses_about_its_share_and_ends(lab, link):
    assert pings_lost(lab, "10.1.0.11") == 0
    lab.loss(link, 30)
    try:
        lost = pings_lost(lab, "10.1.0.11")  # both directions: 51 % expected of 150
        assert 40 <= lost <= 115
    finally:
        lab.loss(link, 0)
    assert pings_lost(lab, "10.1.0.11") == 0


def test_a_frozen_backend_takes_connections_and_answers_nothing(lab):
    lab.freeze("pangyo-2")
    try:
        with lab.connect("client", "10.1.0.12", 80) as connection:
            connection.settimeout(0.6)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")
            with pytest.raises(TimeoutError):
                connection.recv(1)
        assert lab.request("10.1.0.11").backend == "pangyo-1"
    finally:
        lab.thaw("pangyo-2")
    assert lab.request("10.1.0.12").backend == "pangyo-2"


def test_mistakes_name_what_there_is(lab):
    for call, known in ((lambda: lab.darken("busan"), "pangyo"), (lambda: lab.freeze("busan-1"), "pangyo-1"),
                        (lambda: lab.loss("busan", 3), "pangyo-backbone"),
                        (lambda: lab.exec("busan", ["id"]), "client")):
        with pytest.raises(RuntimeError, match=known):
            call()
    with pytest.raises(RuntimeError, match="exists already"):
        Lab(lab.name, detour=False).up()
    assert lab.request("10.1.0.11").status == 200  # and the failure above took nothing away


def test_load_generator_logs_every_connection(lab, tmp_path):
    out = tmp_path / "load.json"
    child = lab.popen("client", [
        lab.program("netlab-loadgen"), "--source", "198.18.1.1", "--source", "2001:db8:c:1::1", "--target",
        "10.1.0.11:80", "--target", "[2001:db8:1:3::11]:80", "--new-rate", "200", "--long", "6", "--upload", "100KiB", "--upload-every",
        "300", "--out", str(out)], stdout=subprocess.PIPE, text=True)
    for line in child.stdout:  # totals, twice a second
        totals = json.loads(line)
        if totals.get("new", {}).get("ok", 0) >= 300 and totals.get("upload", {}).get("ok", 0) >= 2:
            break
    child.send_signal(signal.SIGTERM)
    child.stdout.read()
    assert child.wait(10) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {r["result"] for r in rows if r["kind"] in ("new", "upload")} == {"ok"}
    assert {r["site"] for r in rows} == {"pangyo", "chuncheon"}
    kinds = sorted(r["kind"] for r in rows if r["slot"])
    assert kinds == ["downloading"] * 2 + ["sending"] * 2 + ["waiting"] * 2
    assert {r["result"] for r in rows if r["slot"]} == {"stopped"}
    assert len({(r["src"], r["sport"]) for r in rows}) == len(rows)
    for row in rows:
        assert row["connect_us"] >= RTT * 0.98e6


def test_two_labs_side_by_side_are_strangers(lab):
    other = Lab(lab_name("side"), detour=False, rtt_ms=0, sites=["pangyo", "busan"], backends=1)
    with other:
        lab.darken("pangyo")
        try:
            assert other.request("10.1.0.11").site == "pangyo"
            assert other.request("10.2.0.11").site == "busan"
        finally:
            lab.restore("pangyo")
    assert leftovers(other.name) == []
    assert lab.request("10.1.0.11").site == "pangyo"


def small(name):
    return Lab(name, detour=False, rtt_ms=0, sites=["pangyo"], backends=1)


def test_down_leaves_nothing_after_a_process_was_killed_and_one_was_frozen():
    lab = small(lab_name("killed")).up()
    lab.signal("nginx@pangyo-1", signal.SIGKILL)
    lab.signal("relay", signal.SIGSTOP)
    child = lab.popen("client", ["sleep", "1000"])
    lab.down()
    assert child.wait(1) != 0
    assert leftovers(lab.name) == []


def test_a_recycled_pid_is_not_signalled():
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        real = processes.identify(bystander.pid)
        stale = processes.ProcessId(real.pid, real.start - 1)  # as recorded for an earlier process of that number
        assert not processes.alive(stale)
        processes.end([stale], patience=0)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_process_is_gone_when_its_last_thread_is():
    """Killed while a thread waits for the disk, the first thread is a zombie and the sockets still answer."""
    code = ("import ctypes, threading, time\n"
            "threading.Thread(target=lambda: time.sleep(1)).start()\n"
            "print('begun', flush=True)\n"
            "ctypes.CDLL(None).syscall(60, 0)")  # exit of this thread alone
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    process = processes.identify(child.pid)
    assert child.stdout.readline() == "begun\n"
    processes.wait_for("the first thread's end", lambda: processes.process_stat(child.pid)[0] == "Z", 5)
    assert processes.alive(process)
    assert processes.wait_gone([process], 10) == []
    child.stdout.close()
    child.wait()


def test_a_failure_in_the_middle_of_up_leaves_nothing(monkeypatch):
    lab = small(lab_name("broken"))
    seen = []

    def broken_warm():
        seen.append(leftovers(lab.name))
        raise RuntimeError("no warmth")

    monkeypatch.setattr(lab, "_warm", broken_warm)
    with pytest.raises(RuntimeError, match="no warmth"):
        lab.up()
    assert any("process" in entry for entry in seen[0])  # it had come that far
    assert leftovers(lab.name) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_up_ended_by_a_signal_leaves_nothing(number):
    name = lab_name(f"sig{int(number)}x")
    child = subprocess.Popen([COMMAND, "up", "--name", name, "--no-detour"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    processes.wait_for("its first process", lambda: any("process" in e for e in leftovers(name)), 20)
    child.send_signal(number)
    assert child.wait(20) != 0
    processes.wait_for("the end of everything", lambda: leftovers(name) == [], 20)


def test_a_lab_ends_with_its_owner_even_when_that_is_killed():
    name = lab_name("owner")
    script = ("import sys; sys.path.insert(0, sys.argv[1]); from netlab.lab import Lab\n"
              "lab = Lab(sys.argv[2], detour=False, sites=['pangyo'], backends=1).up()\n"
              "print('up', flush=True); sys.stdin.read()")
    owner = subprocess.Popen([sys.executable, "-c", script, str(REPOSITORY / "tools"), name], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    assert owner.stdout.readline() == b"up\n"
    assert leftovers(name)
    owner.kill()
    owner.wait()
    processes.wait_for("the end of everything", lambda: leftovers(name) == [], 20)
    owner.stdin.close()
    owner.stdout.close()


def run(*arguments, status=0):
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def test_the_command_line_from_up_to_down():
    name = lab_name("cli")
    try:
        assert "is up" in run("up", "--name", name, "--no-detour", "--sites", "pangyo,anyang", "--backends", "1",
                              "--rtt", "10ms")
        state = json.loads(run("status", "--name", name, "--output", "json"))[0]
        assert all(p["alive"] for p in state["processes"].values())
        assert state["nodes"]["pangyo-1"]["v4"] == "10.1.0.11"
        assert "nginx" in run("status", "--name", name)
        cut = run("darken", "pangyo", "--link", "internet", "--name", name)
        assert abs(int(cut.split("realtime_ns=")[1].split()[0]) - time.time_ns()) < 5e9
        state = json.loads(run("status", "--name", name, "--output", "json"))[0]
        assert state["links"]["pangyo-internet"]["dark"] and not state["links"]["pangyo-backbone"]["dark"]
        run("restore", "pangyo", "--name", name)
        run("loss", "--name", name, "client", "30%")
        run("freeze", "--name", name, "pangyo-1")
        run("thaw", "--name", name, "pangyo-1")
        assert "198.18.1.1" in run("exec", "--name", name, "client", "ip", "addr")
        assert "no site 'busan'" in run("darken", "busan", "--name", name, status=1)
        assert "no lab" in run("darken", "pangyo", "--name", "nosuchlab", status=1)
    finally:
        run("down", "--name", name)
    assert leftovers(name) == []

"""Probes against real servers: through the tunnel in the lab, and gRPC without one."""
import json
import os
import re
import signal
import subprocess
import time
from concurrent import futures
from contextlib import contextmanager

import pytest

from conftest import lab_name
from netlab.lab import Lab
from netlab.processes import wait_for
from netlab.topology import UDP_PORT, VIP4, VIP6
from probe_servers import DNS_PORT, GRPC_PORT, GRPCS_PORT, HTTPS_PORT, NAME, certificate, credentials, health_server, start_on

HERE = {"pangyo-1": "10.1.0.11", "pangyo-2": "10.1.0.12"}


@pytest.fixture(scope="module")
def lab():
    """Its PoP host has the VIPs on lo, as one that announces them has; AF_XDP steers what is sent to them."""
    with Lab(lab_name("pr"), rtt_ms=5, sites=["pangyo", "anyang", "chuncheon"], failover={"ramp": "1s"},
             health={"via": "tunnel"}) as running:
        yield running


def backend(lab, address, pool="web"):
    return next(b for b in lab.lbctl_json("backends") if b["address"] == address and b["pool"] == pool)


def events(lab):
    return [json.loads(line) for line in lab.lbctl("events", "--output", "json").stdout.splitlines()]


def last_event(lab):
    return max((e["sequence"] for e in events(lab)), default=0)


def state_is(lab, address, state, seconds=15, pool="web"):
    wait_for(f"{address} {state}", lambda: backend(lab, address, pool)["state"] == state, seconds)


def answers_directly(lab, address):
    return lab.request(address, path="/healthz", node="pop").status == 200


def rules(lab, family="-4"):
    return lab.exec("pop", ["ip", family, "rule"]).stdout


def stats(lab, node):
    text = lab.exec(node, [lab.program("detour-decap"), "stats", "--output", "json"]).stdout
    return json.loads(text)["interfaces"][0]["counters"]


def reload(lab, change):
    """Changes the configuration; its text before."""
    text = lab.config_text()
    lab.write_config(change(text))
    lab.lbctl("reload")
    return text


def test_a_backend_whose_decapsulation_stopped_goes_down_though_it_answers(lab):
    lab.signal("decap@pangyo-1", signal.SIGTERM)
    state_is(lab, HERE["pangyo-1"], "down")
    assert answers_directly(lab, HERE["pangyo-1"])
    assert "through the tunnel" in next(
        e for e in reversed(events(lab)) if e["kind"] == "backend_down" and e["backend"] == HERE["pangyo-1"])["text"]
    assert backend(lab, HERE["pangyo-2"])["state"] == "up"
    lab.restart("decap@pangyo-1")
    state_is(lab, HERE["pangyo-1"], "up")


@pytest.mark.parametrize("vip,other", [(f"{VIP4}/32", VIP6), (f"{VIP6}/128", VIP4)])
def test_a_backend_that_no_longer_holds_one_of_the_vips_goes_down(lab, vip, other):
    mark = last_event(lab)
    lab.exec("pangyo-1", ["ip", "addr", "del", vip, "dev", "lo"])
    state_is(lab, HERE["pangyo-1"], "down")
    assert answers_directly(lab, HERE["pangyo-1"])
    down = [e for e in events(lab) if e["sequence"] > mark and e["kind"] == "backend_down"]
    assert {e["backend"] for e in down} == {HERE["pangyo-1"]}, "only the probes of one backend are concerned"
    assert all(vip.split("/")[0] in e["text"] and other not in e["text"] for e in down)
    lab.exec("pangyo-1", ["ip", "addr", "add", vip, "dev", "lo", *(["nodad"] if ":" in vip else [])])
    state_is(lab, HERE["pangyo-1"], "up")


@pytest.mark.parametrize("encap,counter", [("ipip", "decapsulated_ipip"), ("gre", "decapsulated_gre")])
def test_probes_are_encapsulated_as_the_pool_says(lab, encap, counter):
    before = stats(lab, "pangyo-1")[counter]
    text = reload(lab, lambda t: t.replace('encap = "gue"', f'encap = "{encap}"'))
    wait_for("some probes of that kind", lambda: stats(lab, "pangyo-1")[counter] > before + 100, 15)
    assert all(b["state"] == "up" for b in lab.lbctl_json("backends"))
    reload(lab, lambda _: text)


@pytest.fixture(scope="module")
def lab_v6():
    """Its backends' addresses are IPv6, so the tunnels' outer header is."""
    with Lab(lab_name("pr6"), rtt_ms=5, sites=["pangyo", "anyang"], outer="v6", failover={"ramp": "1s"},
             health={"via": "tunnel"}) as running:
        yield running


@pytest.mark.parametrize("encap", ["gue", "ipip", "gre"])
def test_a_tunnel_over_ipv6_is_probed_too(lab_v6, encap):
    """Both VIPs through it. A backend that decapsulates no more is down, though it answers on its own address."""
    lab, here = lab_v6, lab_v6.topology.nodes["pangyo-1"].v6
    before = stats(lab, "pangyo-1")[f"decapsulated_{encap}"]
    text = reload(lab, lambda t: t.replace('encap = "gue"', f'encap = "{encap}"'))
    wait_for("some probes of that kind", lambda: stats(lab, "pangyo-1")[f"decapsulated_{encap}"] > before + 100, 15)
    wait_for("all up", lambda: all(b["state"] == "up" for b in lab.lbctl_json("backends")), 15)
    lab.signal("decap@pangyo-1", signal.SIGTERM)
    state_is(lab, here, "down")
    assert lab.request(here, path="/healthz", node="pop").status == 200
    lab.restart("decap@pangyo-1")
    state_is(lab, here, "up")
    reload(lab, lambda _: text)


# By kind of probe: keys of its table, and how probe_once asks the same of a host's own address.
TLS = 'server_name = "talk.example", verify = "name", ca_file = "{ca}", timeout = "500ms", '
KINDS = {
    "tcp": ("port = 80, ", 80, ()),
    "icmp": ("", 0, ()),
    "udp": (f'port = {UDP_PORT}, payload = "are you there", ', UDP_PORT, ("payload=are you there",)),
    "dns": (f'port = {DNS_PORT}, query = "{NAME}", ', DNS_PORT, (f"query={NAME}",)),
    "tls": (f"port = {HTTPS_PORT}, " + TLS, HTTPS_PORT, ("server_name=talk.example", "ca_file={ca}")),
    "https": (f'port = {HTTPS_PORT}, path = "/healthz", ' + TLS, HTTPS_PORT,
              ("path=/healthz", "server_name=talk.example", "ca_file={ca}")),
    "grpc": (f'port = {GRPC_PORT}, timeout = "500ms", ', GRPC_PORT, ()),
    "grpcs": (f"port = {GRPCS_PORT}, " + TLS, GRPCS_PORT, ("server_name=talk.example", "ca_file={ca}")),
}
# A gateway site's own address has none of these servers: its backend plays no part.
MINE = {**HERE, "anyang-1": "10.2.0.11", "anyang-2": "10.2.0.12"}


@pytest.fixture(scope="module")
def servers(lab):
    """Those that the kinds of probe above ask, on all hosts of MINE. The certificate's path."""
    key, signed = certificate(lab.dir)
    start_on(lab, MINE, key, signed)
    for node, address in MINE.items():
        for kind in KINDS:
            wait_for(f"{kind} of {node}", lambda: asked_directly(lab, kind, address, signed).startswith("ok"), 30)
    return signed


def asked_directly(lab, kind, address, ca):
    _, port, words = KINDS[kind]
    return lab.exec("pop", [os.environ["PROBE_ONCE"], kind, address, str(port), "2000",
                            *(word.format(ca=ca) for word in words)]).stdout


@contextmanager
def probed_by(lab, kind, ca):
    """All pools are probed by that kind, through the tunnel, while the block runs."""
    table = re.compile(r'health = \{ type = "http", port = 80, path = "/healthz", ([^\n]*) \}')
    keys = f'type = "{kind}", ' + KINDS[kind][0].format(ca=ca)

    def health(found):
        rest = found[1].replace('timeout = "200ms", ', "") if "timeout" in keys else found[1]
        return "health = { " + keys + rest + " }"

    assert table.search(lab.config_text()) and 'via = "tunnel"' in lab.config_text()
    text = reload(lab, lambda text: table.sub(health, text))
    try:
        yield
    finally:
        reload(lab, lambda _: text)
    wait_for("all up", lambda: all(b["state"] == "up" for b in lab.lbctl_json("backends")), 15)


def is_down_by_the_tunnel_alone(lab, kind, ca):
    state_is(lab, HERE["pangyo-1"], "down")
    assert asked_directly(lab, kind, HERE["pangyo-1"], ca).startswith("ok")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_probe_takes_the_tunnel(lab, servers, kind):
    """A host that answers on its own address, but decapsulates no more or holds one of the VIPs no more, is down."""
    with probed_by(lab, kind, servers):
        wait_for("all up", lambda: all(backend(lab, address)["state"] == "up" for address in MINE.values()), 15)
        mark = last_event(lab)
        lab.signal("decap@pangyo-1", signal.SIGTERM)
        try:
            is_down_by_the_tunnel_alone(lab, kind, servers)
        finally:
            lab.restart("decap@pangyo-1")
        state_is(lab, HERE["pangyo-1"], "up")
        for vip, options in ((f"{VIP4}/32", []), (f"{VIP6}/128", ["nodad"])):
            lab.exec("pangyo-1", ["ip", "addr", "del", vip, "dev", "lo"])
            try:
                is_down_by_the_tunnel_alone(lab, kind, servers)
            finally:
                lab.exec("pangyo-1", ["ip", "addr", "add", vip, "dev", "lo", *options])
            state_is(lab, HERE["pangyo-1"], "up")
        down = {e["backend"] for e in events(lab) if e["sequence"] > mark and e["kind"] == "backend_down"}
        assert down & set(MINE.values()) == {HERE["pangyo-1"]}
        assert all(backend(lab, address)["state"] == "up" for address in MINE.values())


def test_a_probe_of_full_size_finds_a_path_that_loses_large_packets(lab):
    """1400 bytes pass, more are lost without a word: small probes see nothing of it."""
    drop = ["add table inet small", "add chain inet small f { type filter hook forward priority 0; policy accept; }",
            f"add rule inet small f ip daddr {HERE['pangyo-1']} ip length > 1400 drop"]
    lab.exec("pangyo", ["nft", "-f", "-"], input="\n".join(drop) + "\n")
    mark = last_event(lab)
    text = reload(lab, lambda t: t.replace('via = "tunnel"', 'via = "tunnel", full_size = true'))
    state_is(lab, HERE["pangyo-1"], "down")
    assert answers_directly(lab, HERE["pangyo-1"])
    down = {e["backend"] for e in events(lab) if e["sequence"] > mark and e["kind"] == "backend_down"}
    assert down == {HERE["pangyo-1"]}
    lab.exec("pangyo", ["nft", "delete", "table", "inet", "small"])
    state_is(lab, HERE["pangyo-1"], "up")
    reload(lab, lambda _: text)


def test_a_stop_of_two_seconds_changes_no_verdict(lab):
    wait_for("all up", lambda: all(b["state"] == "up" for b in lab.lbctl_json("backends")), 15)
    mark = last_event(lab)
    for _ in range(3):
        lab.signal("control", signal.SIGSTOP)
        time.sleep(2)  # the length of the stop is what is tested
        lab.signal("control", signal.SIGCONT)
        probed = time.monotonic() + 1.5
        wait_for("several rounds of probes", lambda: time.monotonic() > probed, 10)
    changed = [e for e in events(lab) if e["sequence"] > mark and
               e["kind"] in ("backend_down", "backend_up", "suspect", "verdict", "switch", "strand")]
    assert not changed, changed[:3]


def test_rules_are_taken_over_after_a_crash_and_removed_at_the_end(lab):
    for family in ("-4", "-6"):
        assert rules(lab, family).count("fwmark 0xd431") == 1
        assert re.search(r"^2:\s+from all lookup local", rules(lab, family), re.M)
    lab.signal("control", signal.SIGKILL)
    assert "fwmark 0xd431" in rules(lab)
    lab.restart("control")
    state_is(lab, HERE["pangyo-1"], "up")
    for family in ("-4", "-6"):
        assert rules(lab, family).count("fwmark 0xd431") == 1
        assert rules(lab, family).count("lookup local") == 1
    lab.signal("control", signal.SIGTERM)
    wait_for("control gone", lambda: not lab.alive("control"), 10)
    for family in ("-4", "-6"):
        assert "fwmark" not in rules(lab, family)
        assert rules(lab, family).startswith("0:") and rules(lab, family).count("lookup local") == 1
    assert "detour-probe" not in lab.exec("pop", ["ip", "link"]).stdout
    lab.restart("control")
    state_is(lab, HERE["pangyo-1"], "up")


def test_without_the_right_to_make_the_device_the_start_is_refused_and_says_why(lab):
    folder = lab.dir / "unprivileged"
    folder.mkdir()
    path = folder / "detour.toml"
    path.write_text(lab.config_text().replace(str(lab.dir / "control"), str(folder / "control")))
    done = lab.exec("client", ["setpriv", "--bounding-set=-net_admin", lab.program("detour-control"), "--config",
                            str(path)], check=False)
    assert done.returncode == 1
    assert "detour-probe" in done.stderr and "CAP_NET_ADMIN" in done.stderr


# ---- gRPC, without a lab ----

def probe(kind, port, *words, timeout_ms=5000):
    done = subprocess.run([os.environ["PROBE_ONCE"], kind, "127.0.0.1", str(port), str(timeout_ms), *words],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_grpc_health_of_a_real_server():
    server, [port], statuses = health_server("127.0.0.1:0")
    try:
        assert probe("grpc", port) == "ok 1"
        assert probe("grpc", port, "service=login") == "grpc_status 5"
        for status, answer in ((1, "ok 1"), (2, "not_serving 2"), (0, "not_serving 0"), (3, "not_serving 3")):
            statuses[b"login"] = status
            assert probe("grpc", port, "service=login") == answer
        assert probe("grpcs", port).split()[0] in ("tls_failed", "reset")
    finally:
        server.stop(0).wait()
    assert probe("grpc", port) == "refused 0"


def test_grpc_health_over_tls(tmp_path):
    key, signed = certificate(tmp_path)
    server, [port], _ = health_server("127.0.0.1:0", credentials=credentials(key, signed))
    try:
        assert probe("grpcs", port) == "ok 1"
        assert probe("grpcs", port, "server_name=talk.example", f"ca_file={signed}") == "ok 1"
        assert probe("grpcs", port, "server_name=other.example", f"ca_file={signed}") == "certificate_name 0"
        assert probe("grpc", port).split()[0] in ("reset", "bad_response")
    finally:
        server.stop(0).wait()


def test_a_server_without_the_health_service_is_not_implemented():
    import grpc

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert probe("grpc", port) == "grpc_status 12"
    finally:
        server.stop(0).wait()

"""Failures of a site's servers, and a site that comes and goes: five servers a site, probes through the tunnel, and
the damping of flaps that an operator gets unless told otherwise."""
import signal
import time

import pytest

from conftest import lab_name
from load import load
from netlab.lab import Lab
from netlab.processes import wait_for
from netlab.topology import TCP_PORTS
from observe import events, healthy, last_event, site, sites, switched_ms, verdict_is, verdicts

SITES = ("pangyo", "anyang", "chuncheon")
SERVERS = 5
OVERPROVISIONING = 1.4


@pytest.fixture(scope="module")
def lab():
    with Lab(lab_name("servers"), backends=SERVERS, rtt_ms=10, health={"via": "tunnel"},
             failover={"ramp": "1s", "flap_hold": "10s"}) as running:
        yield running


@pytest.fixture(autouse=True)
def settled(lab):
    yield
    for name in SITES:
        lab.restore(name)
    for node in lab.topology.detour_backends("pangyo"):
        lab.thaw(node.name)
        if not lab.alive(f"decap@{node.name}"):
            lab.restart(f"decap@{node.name}")
    wait_for("all sites healthy and admitted", lambda: healthy(lab) and all_up(lab), 90)


def all_up(lab):
    return all(one["backends_up"] == one["backends"] for one in sites(lab))


def backends_up(lab, name, count):
    """Of each pool."""
    def rows():
        return [part for pool in lab.api("GET", "/v1/pools") for part in pool["sites"] if part["site"] == name]
    wait_for(f"{count} backends of {name} up", lambda: all(row["backends_up"] == count for row in rows()), 20)


def share(result_rows, name):
    return sum(row["site"] == name for row in result_rows) / len(result_rows)


def measure(lab, seconds=3):
    """New connections while a state lasts: all must be answered."""
    with load(lab, rate=200) as result:
        until = time.monotonic() + seconds
        wait_for(f"{seconds} s", lambda: time.monotonic() > until, seconds + 5)
    rows = [row for row in result.of("new") if row["result"] != "stopped"]
    assert len(rows) > 100 * seconds
    assert not [row for row in rows if row["result"] != "ok"]
    return rows


def test_60_percent_of_the_servers_gone_then_back_in_three_steps(lab):
    """The site's share follows the healthy servers; a server without power is never used; each step back is taken at
    once and none costs a connection."""
    nodes = [node.name for node in lab.topology.detour_backends("pangyo")]
    fair = share(measure(lab), "pangyo")
    assert 0.2 < fair < 0.5
    before = last_event(lab)
    for node in nodes[:3]:
        lab.freeze(node)
    backends_up(lab, "pangyo", 2)
    seen = []
    for gone in (3, 2, 1, 0):
        backends_up(lab, "pangyo", SERVERS - gone)
        rows = measure(lab)
        assert {row["backend"] for row in rows}.isdisjoint(nodes[:gone])
        seen.append(share(rows, "pangyo") / fair)
        if gone:
            assert site(lab, "pangyo")["verdict"] == "degraded"
            lab.thaw(nodes[gone - 1])
    print("share of pangyo, of its share when well:", [f"{part:.2f}" for part in seen])
    for part, up in zip(seen, (2, 3, 4, 5), strict=True):
        expected = min(1, up / SERVERS * OVERPROVISIONING)
        assert abs(part - expected) < 0.25, (up, seen)
    assert seen[0] < seen[2]
    assert not [row for row in verdicts(lab, before) if row[0] != "pangyo" or row[1] == "dark"]


def test_a_site_that_answers_on_its_hosts_but_not_through_the_tunnel(lab):
    """Every server answers on its own address; none takes the tunnel's packets any more."""
    before = last_event(lab)
    backends = lab.topology.detour_backends("pangyo")
    for node in backends:
        lab.signal(f"decap@{node.name}", signal.SIGTERM)
    verdict_is(lab, "pangyo", "dark")
    assert site(lab, "pangyo")["admit"] == 0
    for node in backends:
        assert lab.request(node.v4, TCP_PORTS[0], "/healthz", node="pop").status == 200
    assert events(lab, before, "switch_done", "pangyo")
    assert {row["site"] for row in measure(lab)} == {"anyang", "chuncheon"}
    for node in backends:
        lab.restart(f"decap@{node.name}")
    verdict_is(lab, "pangyo", "healthy", 60)


def test_a_site_that_flaps_every_3_seconds_for_2_minutes(lab):
    """It is taken away, and stays away until it has lasted; nobody of the other sites notices; it comes back after."""
    before = last_event(lab)
    with load(lab, rate=100) as result:
        first = lab.darken("pangyo")
        switched_ms(lab, before, "pangyo", first)
        settled_ns = time.time_ns() + 1_000_000_000
        end = time.monotonic() + 120
        dark = True
        while time.monotonic() < end:
            turn = time.monotonic() + 3
            wait_for("3 s", lambda turn=turn: time.monotonic() > turn, 10)
            dark = not dark
            lab.darken("pangyo") if dark else lab.restore("pangyo")
        lab.restore("pangyo")
        last_ns = time.time_ns()
        moves = [event["data"]["to"] for event in events(lab, before, "switch", "pangyo")]
        verdict_is(lab, "pangyo", "healthy", 120)
        back_s = (time.time_ns() - last_ns) / 1e9
    print(f"switches while it flapped: {moves}; back {back_s:.1f} s after the last flap")
    assert len(moves) <= 5, moves  # forty changes of the link; two returns at the most
    assert not [row for row in verdicts(lab, before) if row[0] != "pangyo" and row[1] == "dark"]
    failed = [row for row in result.of("new") if row["result"] not in ("ok", "stopped")]
    wrong = [row for row in failed if settled_ns < row["start_ns"] < last_ns]
    assert len(wrong) <= 100 * len(moves), wrong[:3]  # at most what a return costs
    assert not [row for row in failed if row["start_ns"] > last_ns]

"""Each kind of failure that a site can have, one after the other in one lab: what Detour decides, and what clients see.

Bounds are generous where they are of time: the machine is shared. What must not happen has no bound: clients of other
sites notice nothing.
"""
import os
import random
import signal
import subprocess
import time

import pytest

from conftest import lab_name
from load import load
from netlab import report
from netlab.lab import Lab
from netlab.processes import wait_for
from netlab.topology import VIP4, VIP6
from observe import events, healthy, last_event, site, sites, switched_ms, verdict_is, verdicts

SITES = ("pangyo", "anyang", "chuncheon")
# Clients in many prefixes, as the passive signal asks for.
WIDE = ("--source", "198.19.0.1", "--source", "2001:db8:8000::1", "--prefixes", "120")


@pytest.fixture(scope="module")
def lab():
    with Lab(lab_name("fault"), rtt_ms=20, bfd=True, health={"fall": 3, "rise": 2}, failover={"ramp": "1s"}) as running:
        yield running


@pytest.fixture(autouse=True)
def settled(lab):
    """Each test starts with every site well, and must leave it so that the next one can."""
    configure(lab, bfd=False)
    yield
    for name in SITES:
        lab.restore(name)
        for link in ("backbone", "internet"):
            lab.loss(f"{name}-{link}", 0)
        lab.lbctl("undrain", name, check=False)
    wait_healthy(lab)


def wait_healthy(lab, seconds=60):
    """With clients: a site that trickles shows by them that it is well."""
    if not healthy(lab):
        with load(lab, rate=600, options=WIDE):
            wait_for("all sites healthy and admitted", lambda: healthy(lab), seconds)


def configure(lab, bfd):
    if not hasattr(lab, "with_bfd"):
        lab.with_bfd = lab.config_text()
        lab.without_bfd = "".join(line for line in lab.with_bfd.splitlines(keepends=True)
                                  if not line.startswith("probe ="))
    text = lab.with_bfd if bfd else lab.without_bfd
    if lab.config_text() != text:
        lab.write_config(text)
        lab.lbctl("reload")
    if bfd:
        wait_for("BFD sessions up", lambda: all(s["state"] == "up" for one in sites(lab) for s in one["bfd"]), 20)


def pool_states(lab):
    return {pool["name"]: pool["state"] for pool in lab.api("GET", "/v1/pools")}


def placed(lab, rows):
    """Where the plan places each connection while every site takes its share."""
    def address(host, port):
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    flows = [{"source": address(r["src"], r["sport"]), "vip": address(r["dst"], r["dport"]) + "/tcp"} for r in rows]
    return [flow["site"] for flow in lab.api("POST", "/v1/trace", {"flows": flows}, timeout=60)]


def bystanders_failed(lab, result, sick):
    """Connections that the plan had placed on other sites and that failed or went elsewhere. Every site must be well."""
    rows = result.of("new")
    return [row for row, where in zip(rows, placed(lab, rows), strict=True)
            if where not in sick and row["result"] != "stopped" and (row["result"] != "ok" or row["site"] != where)]


def ok_since(result, moment_ns):
    """Every connection that was started after the moment is answered."""
    late = [r for r in result.of("new") if r["start_ns"] > moment_ns and r["result"] != "stopped"]
    assert len(late) > 50
    return not [r for r in late if r["result"] != "ok"]


def now_plus(seconds):
    moment = time.time_ns() + int(seconds * 1e9)
    wait_for(f"{seconds} s", lambda: time.time_ns() > moment, seconds + 5)
    return moment


# ---- a whole site, and the whole host

def test_power_cut(lab):
    before = last_event(lab)
    with load(lab, rate=100) as result:
        cut = lab.darken("pangyo")
        assert switched_ms(lab, before, "pangyo", cut) < 2000
        now_plus(3)
    assert ok_since(result, cut.after_ns + 2_000_000_000)
    lab.restore("pangyo")
    wait_healthy(lab)
    assert not bystanders_failed(lab, result, {"pangyo"})


def test_power_cut_with_bfd(lab):
    configure(lab, bfd=True)
    table = lab.lbctl("sites").stdout
    assert "BFD UP" in table and "1/1" in table
    before = last_event(lab)
    cut = lab.darken("pangyo")
    switched = switched_ms(lab, before, "pangyo", cut)
    print(f"switched after {switched} ms")
    assert switched < 1000
    said = [(e["site"], e["data"]["to"]) for e in events(lab, before, "bfd")]
    assert ("pangyo", "down") in said and ("anyang", "down") not in said
    dark = site(lab, "pangyo")
    assert dark["verdict"] == "dark" and "BFD with 10.1.0.1 is down" in dark["reason"]
    assert dark["bfd"][0]["state"] == "down" and dark["bfd"][0]["reason"] == "detection-time-expired"
    lab.restore("pangyo")
    wait_for("BFD up again", lambda: site(lab, "pangyo")["bfd"][0]["state"] == "up", 20)


def test_bfd_alone_takes_no_site_away(lab):
    """BIRD is killed, its site is well; another router is switched off in peace; a reload keeps what is up."""
    configure(lab, bfd=True)
    before = last_event(lab)
    for name in ("pangyo", "anyang"):
        lab.signal(f"bird@{name}", signal.SIGKILL)
        bfd_is(lab, name, "down")
    speaker = lab.popen("anyang", [os.environ["BFD_SPEAKER"], "pop=multi,10.2.0.1,10.8.1.2"], stdin=subprocess.PIPE,
                        stdout=subprocess.DEVNULL)
    bfd_is(lab, "anyang", "up")
    speaker.stdin.close()  # a clean end says AdminDown
    bfd_is(lab, "anyang", "unknown")
    assert site(lab, "anyang")["bfd"][0]["reason"] == "switched off at the router"
    since = site(lab, "chuncheon")["bfd"][0]["since"]
    lab.write_config(lab.with_bfd.replace("weight = 100", "weight = 99"))
    lab.lbctl("reload")
    assert site(lab, "chuncheon")["bfd"][0] == {"address": "10.3.0.1", "state": "up", "since": since, "reason": ""}
    assert not events(lab, before, "switch")
    assert all(one["admit"] == 1 for one in sites(lab))
    for name in ("pangyo", "anyang"):
        lab.restart(f"bird@{name}")
    configure(lab, bfd=True)


def bfd_is(lab, name, state):
    wait_for(f"BFD of {name} {state}", lambda: site(lab, name)["bfd"][0]["state"] == state, 20)


def test_two_of_three_sites(lab):
    before = last_event(lab)
    with load(lab, rate=100) as result:
        cut = lab.darken("pangyo")
        lab.darken("anyang")
        for name in ("pangyo", "anyang"):
            assert switched_ms(lab, before, name, cut) < 3000
        moment = time.time_ns() + 1_000_000_000
        now_plus(3)
    assert ok_since(result, moment)
    assert {r["site"] for r in result.of("new") if r["start_ns"] > moment and r["result"] == "ok"} == {"chuncheon"}
    assert pool_states(lab)["web"] == "degraded"


@pytest.mark.parametrize("bfd", [False, True])
def test_all_sites_dark_at_once_fails_static(lab, bfd):
    """The fault is probably ours: in the end every switch is as it was, and the first answer ends it."""
    configure(lab, bfd=bfd)
    for name in SITES:
        lab.darken(name)
    wait_for("fail static", lambda: "every site looks dark" in " ".join(lab.api("GET", "/v1/status")["alarms"]), 15)
    assert [one["admit"] for one in sites(lab)] == [1, 1, 1]
    assert all(one["keep"] for one in sites(lab))
    now_plus(3)
    assert [one["admit"] for one in sites(lab)] == [1, 1, 1]
    for name in SITES:
        lab.restore(name)
    wait_for("normal again", lambda: not lab.api("GET", "/v1/status")["alarms"], 20)
    assert lab.request(VIP4).status == 200


# ---- one link of a site

def test_internet_link_cut_while_the_backbone_works(lab):
    """Probes succeed, answers to clients are lost: a trickle stays, shows the recovery, and the site ramps back."""
    before = last_event(lab)
    with load(lab, rate=100, options=WIDE) as result:
        now_plus(1.5)  # what the other sites' clients complete is what is compared with
        cut = lab.darken("pangyo", "internet")
        switched = switched_ms(lab, before, "pangyo", cut)
        print(f"moved after {switched} ms")
        assert switched < 2000
        moment = time.time_ns()
        dark = site(lab, "pangyo")
        assert dark["verdict"] == "dark" and dark["trickle"] and 0 < dark["admit"] < 0.011 and dark["keep"]
        assert "clients don't get through" in dark["reason"]
        now_plus(4)
    late = [r for r in result.of("new") if r["start_ns"] > moment and r["result"] != "stopped"]
    assert len(late) > 300
    failed = [r for r in late if r["result"] != "ok"]
    assert len(failed) < 0.03 * len(late), failed[:3]  # the trickle
    # Without clients nothing shows that it is well.
    lab.restore("pangyo", "internet")
    now_plus(2)
    assert site(lab, "pangyo")["verdict"] == "dark"
    wait_healthy(lab)
    assert not bystanders_failed(lab, result, {"pangyo"})


def test_backbone_link_cut_while_the_internet_works(lab):
    """No probe gets there and no client's packet: as dark as by a power cut."""
    before = last_event(lab)
    with load(lab, rate=100) as result:
        cut = lab.darken("pangyo", "backbone")
        assert switched_ms(lab, before, "pangyo", cut) < 2000
        moment = time.time_ns() + 1_000_000_000
        now_plus(3)
    assert ok_since(result, moment)
    assert site(lab, "pangyo")["admit"] == 0
    lab.restore("pangyo", "backbone")
    wait_healthy(lab)
    assert not bystanders_failed(lab, result, {"pangyo"})


# ---- loss

def test_one_way_loss_towards_the_site(lab):
    before = last_event(lab)
    cut = lab.loss("pangyo-backbone", 100, "to")
    assert switched_ms(lab, before, "pangyo", cut) < 2000
    assert site(lab, "pangyo")["verdict"] == "dark"


def test_one_way_loss_from_the_site_to_this_host_keeps_established_connections(lab):
    """Answers to probes are lost, answers to clients are not: new ones go elsewhere, old ones go on and are not reset."""
    with load(lab, long_lived=30) as result:
        now_plus(1)
        before = last_event(lab)
        cut = lab.loss("pangyo-backbone", 100, "from")
        assert switched_ms(lab, before, "pangyo", cut) < 2000
        now_plus(4)  # well over strand_after
        assert not events(lab, before, "strand", "pangyo")
    assert not result.failed("sending", "downloading")
    assert any(r["site"] == "pangyo" for r in result.of("sending", "downloading"))


def test_one_way_loss_from_the_site_with_bfd(lab):
    """The router still hears us, we don't hear it: it is told, and both sides are down."""
    configure(lab, bfd=True)
    before = last_event(lab)
    cut = lab.loss("pangyo-backbone", 100, "from")
    assert switched_ms(lab, before, "pangyo", cut) < 1000
    assert site(lab, "pangyo")["bfd"][0]["state"] == "down"


def test_30_percent_loss(lab):
    """On the sick site's backbone, both ways. Its own clients suffer; nobody else does, and it ends when the loss does."""
    before = last_event(lab)
    with load(lab, rate=100) as result:
        lab.loss("pangyo-backbone", 30)
        now_plus(10)
        lab.loss("pangyo-backbone", 0)
        wait_healthy_under_load(lab)
    assert all(name == "pangyo" for name, _ in verdicts(lab, before))
    # The plan's own draws may change while a site comes and goes, but nobody of another site fails.
    rows = result.of("new")
    other = [r for r, where in zip(rows, placed(lab, rows), strict=True)
             if where != "pangyo" and r["result"] not in ("ok", "stopped")]
    assert not other, other[:3]


def wait_healthy_under_load(lab):
    wait_for("all sites healthy and admitted", lambda: healthy(lab), 60)


# ---- servers

def test_a_site_that_takes_connections_and_never_answers(lab):
    before = last_event(lab)
    nodes = [node.name for node in lab.topology.web_servers("pangyo")]
    with load(lab, rate=100) as result:
        begin = time.time_ns()
        for node in nodes:
            lab.freeze(node)
        verdict_is(lab, "pangyo", "dark")
        moment = time.time_ns() + 1_000_000_000
        now_plus(3)
        for node in nodes:
            lab.thaw(node)
    assert report_ms(lab, before, begin) < 4000
    assert ok_since(result, moment)


def report_ms(lab, before, begin_ns):
    dark = report.find_event(events(lab, before), "verdict", "pangyo", begin_ns, to="dark")
    return report.ms(report.event_ns(dark) - begin_ns)


# ---- this host

def test_an_overloaded_control_process_changes_no_verdict(lab):
    """Stopped for 0.4 s of each half second, for 6 s: probes are shed, nothing is called dark. Then one long stop."""
    configure(lab, bfd=True)
    before = last_event(lab)
    with load(lab, rate=100) as result:
        seed = random.randrange(1 << 30)
        print(f"seed {seed}")
        pause = random.Random(seed)
        until = time.monotonic() + 6
        while time.monotonic() < until:
            lab.signal("control", signal.SIGSTOP)
            time.sleep(0.3 + 0.2 * pause.random())  # the length of the stop is what is tested
            lab.signal("control", signal.SIGCONT)
            time.sleep(0.1)
        lab.signal("control", signal.SIGSTOP)
        time.sleep(2)
        lab.signal("control", signal.SIGCONT)
        wait_for("control answers", lambda: lab.lbctl("status", check=False).returncode == 0, 20)
        now_plus(2)
    assert not events(lab, before, "switch")
    assert not [row for row in verdicts(lab, before) if row[1] == "dark"]
    assert not result.failed("new")


def test_an_overloaded_control_process_still_sees_a_power_cut(lab):
    before = last_event(lab)
    cut = lab.darken("pangyo")
    until = time.monotonic() + 10
    while time.monotonic() < until and not events_now(lab, before):
        lab.signal("control", signal.SIGSTOP)
        time.sleep(0.1)
        lab.signal("control", signal.SIGCONT)
        time.sleep(0.1)
    assert switched_ms(lab, before, "pangyo", cut) < 10_000
    assert site(lab, "anyang")["verdict"] == "healthy"


def events_now(lab, before):
    return events(lab, before, "switch_done", "pangyo")


def test_both_vips_answer_in_the_end(lab):
    for vip in (VIP4, VIP6):
        assert lab.request(vip).status == 200

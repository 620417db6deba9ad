"""Failures of the host with a configuration as large as is promised: 1,000 pools, 16 sites, 10,000 backends.

The lab has one backend a site, so that many backends share an address; most are probed every 10 s, so that it is not the
machine's two cores that are tested. The two pools that each lab has are probed as ever, and BFD runs at 50 ms x 3.
"""
import subprocess
import time

import pytest

from conftest import lab_name
from netlab.lab import Lab
from netlab.processes import wait_for
from netlab.topology import VIP4
from observe import events, healthy, last_event, site, sites, switched_ms, verdicts

SITES = [f"site{i}" for i in range(1, 17)]
POOLS, BACKENDS = 1_000, 10  # of each of them, but for the lab's own two, which are in every site
STORM_SECONDS, STORM_RELOADS = 20, 8

SLOW_DISK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
int fsync(int fd) { sleep(3); return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }
int fdatasync(int fd) { sleep(3); return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd); }
"""


@pytest.fixture(scope="module")
def lab():
    with Lab(lab_name("large"), sites=SITES, backends=1, rtt_ms=20, bfd=True, health={"fall": 3, "rise": 2},
             failover={"ramp": "1s"}) as running:
        running.small = running.config_text()
        make_disk_slow(running)
        running.write_config(large(running, weight=100))
        running.restart("control")
        wait_for("BFD sessions up", lambda: all(s["state"] == "up" for one in sites(running) for s in one["bfd"]), 60)
        wait_until_all_up(running)
        yield running


def make_disk_slow(lab):
    """The control process gets a disk whose every fsync takes 3 s, from its next start on."""
    library = lab.dir / "slow.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library), "-ldl"], input=SLOW_DISK, text=True,
                   check=True)
    control = lab._processes["control"]
    control["command"] = ["env", f"LD_PRELOAD={library}", *control["command"]]


def large(lab, weight):
    """Each pool is in ten sites, and its neighbour in one other."""
    addresses = [(name, lab.topology.detour_backends(name)[0].v4) for name in SITES]
    parts = [lab.small.replace("weight = 100", f"weight = {weight}")]
    for i in range(POOLS - 2):
        parts.append(f'[[pool]]\nname = "large-{i}"\nvip = ["{VIP4}:{10_000 + i}/tcp"]\nencap = "gue"\n'
                     'health = { type = "tcp", port = 80, interval = "10s", timeout = "1s", fall = 3, rise = 2 }\n')
        for k in range(BACKENDS):
            name, address = addresses[(i + k) % len(addresses)]
            parts.append(f'[[pool.backend]]\nsite = "{name}"\naddress = "{address}"\nweight = {weight}\n')
    return "\n".join(parts)


def reload(lab, weight):
    lab.write_config(large(lab, weight))
    lab.lbctl("reload")


def wait_until_all_up(lab):
    """Two answers of each backend, 10 s apart. Asked seldom: the answer is large."""
    deadline = time.monotonic() + 90
    while (missing := [b for b in lab.api("GET", "/v1/backends") if b["state"] != "up"]):
        assert time.monotonic() < deadline, f"{len(missing)} backends are not up: {missing[:3]}"
        time.sleep(1)  # between two questions


def since_by_site(lab):
    return {one["name"]: [s["since"] for s in one["bfd"]] for one in sites(lab)}


def test_a_slow_disk_and_full_plans_under_way_change_no_verdict_and_no_bfd_session_falls(lab):
    """Each reload with another weight is a full plan and a state to write. A drain waits for the disk, nothing else."""
    assert len(lab.api("GET", "/v1/backends")) >= 10_000
    before, sessions = last_event(lab), since_by_site(lab)
    began = time.monotonic()
    lab.lbctl("drain", "site2", "--for", "1m")
    assert time.monotonic() - began > 2.5, "the disk is slow and the drain was acknowledged before it was written"
    reloads, slowest = 0, 0.0
    while time.monotonic() < began + STORM_SECONDS or reloads < STORM_RELOADS:
        reload(lab, weight=50 + reloads % 2)
        reloads += 1
        asked = time.monotonic()
        assert site(lab, "site1")["verdict"] == "healthy"
        slowest = max(slowest, time.monotonic() - asked)
    lab.lbctl("undrain", "site2")
    wait_for("plans in force", lambda: len(events(lab, before, "plan_applied")) >= reloads, 20)
    print(f"{reloads} full plans in {time.monotonic() - began:.0f} s, the slowest question between them took "
          f"{slowest:.3f} s")
    for kind in ("bfd", "backend_down", "backend_up", "suspect", "probe_missed", "alarm", "plan_refused"):
        assert not events(lab, before, kind), kind
    assert {name for name, _ in verdicts(lab, before)} <= {"site2"}
    assert since_by_site(lab) == sessions


def test_a_power_cut_is_seen_while_full_plans_are_under_way(lab):
    wait_for("all sites healthy and admitted", lambda: healthy(lab), 30)
    before = last_event(lab)
    reload(lab, weight=70)
    cut = lab.darken("site3")
    for weight in (71, 72, 73):
        reload(lab, weight)
    took = switched_ms(lab, before, "site3", cut)
    print(f"switched after {took} ms")
    assert took < 1000
    assert {name for name, _ in verdicts(lab, before)} == {"site3"}
    lab.restore("site3")

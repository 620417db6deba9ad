"""The kernel's next hops change under load: two gateways towards the sites, one Ethernet segment.

Each change may cost what it costs itself: a route replaced costs nothing, a gateway's new hardware address the moment
until the kernel hears of it, a dead gateway the time until the kernel finds it dead.
"""
import json
import time

import pytest

from conftest import lab_name
from load import load
from netlab.lab import Lab
from netlab.processes import wait_for
from observe import healthy

FIRST, SECOND = "10.8.1.1", "10.8.2.1"
MACS = ("02:00:00:00:99:01", "02:00:00:00:99:02")
SLOW_US = 700_000  # a SYN that was lost is sent again after a second


@pytest.fixture(scope="module")
def lab():
    with Lab(lab_name("hops"), rtt_ms=4, backends=4, failover={"ramp": "1s"}) as running:
        add_second_gateway(running)
        yield running


@pytest.fixture(autouse=True)
def settled(lab):
    use_both(lab)
    wait_for("all sites healthy", lambda: healthy(lab), 60)
    wait_for("both gateways in use", lambda: min(carried(lab)) > 0, 20)
    yield


def shell(lab, node, text):
    return lab.exec(node, ["sh", "-ec", text]).stdout


def add_second_gateway(lab):
    """A second address and hardware address at the backbone's end of the PoP's link. The PoP finds out within seconds
    that a gateway is silent, and its own packets, the probes, leave one that is."""
    shell(lab, "backbone", f"""
        ip link add link pop name gw2 address {MACS[0]} type macvlan mode bridge
        ethtool -K gw2 tx off > /dev/null
        echo 1 > /proc/sys/net/ipv4/conf/gw2/arp_notify
        ip addr add {SECOND}/30 dev gw2
        ip link set gw2 up""")
    shell(lab, "pop", """
        ip addr add 10.8.2.2/30 dev eth1
        cd /proc/sys/net/ipv4
        echo 1 > fib_multipath_use_neigh
        cd neigh/eth1
        echo 1000 > base_reachable_time_ms
        echo 1 > delay_first_probe_time
        echo 200 > retrans_time_ms""")


def backends(lab):
    return [node.v4 for name in lab.topology.sites for node in lab.topology.detour_backends(name)]


def set_routes(lab, *gateways):
    """`gateways`: (address, weight), for every site. Probes go from the address that the sites know the way back to."""
    ways = " ".join(f"nexthop via {address} dev eth1 weight {weight}" for address, weight in gateways)
    networks = sorted({".".join(address.split(".")[:2]) + ".0.0/23" for address in backends(lab)})
    shell(lab, "pop", "\n".join(f"ip route replace {network} src 10.8.1.2 {ways}" for network in networks))


def way_of(lab, address):
    return json.loads(lab.exec("pop", ["ip", "-j", "route", "get", address]).stdout)[0]["gateway"]


def use_both(lab):
    """The kernel spreads addresses by a hash with a random seed: of some weights there is one by which both are used."""
    shell(lab, "backbone", "ip link set gw2 up")
    shell(lab, "pop", f"ping -n -c 1 -W 2 -I eth1 {SECOND} > /dev/null")
    for weights in ((1, 1), (1, 3), (3, 1), (1, 9), (9, 1)):
        set_routes(lab, (FIRST, weights[0]), (SECOND, weights[1]))
        if {way_of(lab, address) for address in backends(lab)} == {FIRST, SECOND}:
            return
    raise AssertionError("the kernel uses one of two gateways for every backend")


def received(lab):
    """Frames that each of the two gateways got so far."""
    links = {link["ifname"]: link for link in json.loads(lab.exec("backbone", ["ip", "-j", "-s", "link"]).stdout)}
    return [links[name]["stats64"]["rx"]["packets"] for name in ("pop", "gw2")]


def carried(lab):
    """Frames by each gateway while ten requests are made. The second's pass by the device of the first."""
    before = received(lab)
    for _ in range(10):
        lab.request("203.0.113.10")
    both, second = (after - was for was, after in zip(before, received(lab)))
    return both - second, second


def met(rows, begin_ns=0):
    """Connections begun since that failed, or that lost their SYN."""
    return [r for r in rows if r["start_ns"] >= begin_ns and
            (r["result"] not in ("ok", "stopped") or r.get("connect_us", 0) > SLOW_US)]


def seconds_of_load(seconds):
    until = time.monotonic() + seconds
    wait_for("load", lambda: time.monotonic() > until, seconds + 5)


def test_replaced_routes_lose_no_connection(lab):
    with load(lab, rate=150, long_lived=30) as result:
        for gateways in (((FIRST, 1),), ((SECOND, 1),), ((FIRST, 1), (SECOND, 1)), ((SECOND, 1),), ((FIRST, 1),)):
            set_routes(lab, *gateways)
            if len(gateways) == 1:
                idle = 1 if gateways[0][0] == FIRST else 0
                wait_for("the other gateway to idle", lambda: carried(lab)[idle] <= 4, 10)
        seconds_of_load(1)
    assert len(result.of("new")) > 100
    assert not met(result.of("new")), met(result.of("new"))[:3]
    assert not result.failed("long"), result.failed("long")[:3]


def test_a_gateways_new_hardware_address_costs_a_moment(lab):
    with load(lab, rate=150, long_lived=30) as result:
        seconds_of_load(1)
        changed = time.time_ns()
        shell(lab, "backbone", f"ip link set gw2 address {MACS[1]}")
        wait_for("both gateways in use", lambda: min(carried(lab)) > 0, 20)
        seconds_of_load(2)
    assert not result.failed("new", "long"), result.failed("new", "long")[:3]
    late = met(result.of("new"), changed + 1_000_000_000)
    assert not late, late[:3]
    assert not [r for r in met(result.of("new")) if r["start_ns"] < changed - 1_100_000_000]
    shell(lab, "backbone", f"ip link set gw2 address {MACS[0]}")


def test_a_dead_gateway_is_left_as_soon_as_the_kernel_finds_it_dead(lab):
    def failed():
        entry = json.loads(lab.exec("pop", ["ip", "-j", "neigh", "show", SECOND, "dev", "eth1"]).stdout)
        return bool(entry) and "FAILED" in entry[0]["state"]
    with load(lab, rate=150) as result:
        shell(lab, "backbone", "ip link set gw2 down")
        wait_for("the kernel to find the gateway dead", failed, 30)
        left = time.time_ns()
        wait_for("all sites healthy by the other gateway", lambda: healthy(lab), 60)
        seconds_of_load(3)
    late = met(result.of("new"), left + 2_000_000_000)
    assert len([r for r in result.of("new") if r["start_ns"] > left + 2_000_000_000]) > 100
    assert not late, late[:3]

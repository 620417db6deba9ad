"""BFD against independent peers, BIRD and FRR: single and multi hop, IPv4 and IPv6, at 50 ms x 3.

Bounds are generous: the machine is shared. Detection itself is 150 ms; a second says that it was no other mechanism.
"""
import shutil
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bpf"))

from netns import inside  # noqa: E402: the path first
from bfd_peers import DEADLINE_SECONDS, SESSIONS, Bird, Frr, Network, Speaker, wide_sessions  # noqa: E402

MILLISECOND = 1_000_000
NEGOTIATED = (50_000, 150_000)  # microseconds: transmit interval, detection time


@pytest.fixture(scope="module")
def network():
    network = Network()
    yield network
    network.close()


@pytest.fixture
def folder():
    # Not pytest's own, which only root may enter: FRR's daemons give up root.
    path = Path(tempfile.mkdtemp(prefix="bfd"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def us(network):
    speaker = Speaker(network, "us", SESSIONS)
    yield speaker
    speaker.kill()


@pytest.fixture(params=[Bird, Frr])
def peer(request, network, folder, us):
    """Running, with every session Up at the wanted intervals."""
    daemon = request.param(network, folder, SESSIONS)
    daemon.run()
    try:
        expect_up(us)
        yield daemon
    finally:
        daemon.kill()


@pytest.fixture
def frr(network, folder):
    daemon = Frr(network, folder, SESSIONS)
    daemon.run()
    yield daemon
    daemon.kill()


def expect_up(us):
    for session in SESSIONS:
        us.until(session, lambda event: event.state == "up")
        us.until_intervals(session, NEGOTIATED)


def expect_down_by_silence(us, since, seconds=1.0):
    for session in SESSIONS:
        event = us.until(session, lambda event: event.state == "down")
        assert event.diagnostic == "detection-time-expired", event
        assert event.nanoseconds - since < seconds * 1000 * MILLISECOND, event


def test_sessions_come_up_at_50_ms_and_fall_when_the_peer_is_killed_and_rise_when_it_returns(us, peer):
    for session in SESSIONS:
        assert us.status(session)[:3] == ("up", "none", "up"), session
    killed = time.monotonic_ns()
    peer.kill()
    expect_down_by_silence(us, killed)
    peer.run()
    expect_up(us)
    counters = us.counters()
    assert counters["received"] > 0 and counters["version"] + counters["length"] + counters["wrong-path"] == 0, counters


def test_a_cut_path_takes_down_the_sessions_that_cross_it_and_no_other(network, us, peer):
    cut = time.monotonic_ns()
    network.ip("router", "link", "set", "on", "down")
    try:
        for session in ("multi4", "multi6"):
            event = us.until(session, lambda event: event.state == "down")
            assert event.diagnostic == "detection-time-expired"
            assert event.nanoseconds - cut < 2000 * MILLISECOND  # `ip` itself takes its time
        assert us.status("single4")[0] == us.status("single6")[0] == "up"
    finally:
        network.ip("router", "link", "set", "on", "up")
        network.ip("router", "-6", "address", "replace", "fd03::1/64", "dev", "on", "nodad")


def test_what_we_switch_off_is_down_at_the_peer_and_comes_back(us, peer):
    for session in SESSIONS:
        us.send(f"disable {session}")
        assert us.until(session, lambda event: True).state == "admin-down"
    if isinstance(peer, Frr):
        for session in SESSIONS:
            peer.until(session, "status", "down")
            peer.until(session, "remote-diagnostic", "administratively down")
    for session in SESSIONS:
        us.send(f"enable {session}")
        us.until(session, lambda event: event.state == "up")


def test_a_peer_that_is_switched_off_by_its_operator_says_so(us, network, frr):
    expect_up(us)
    for session in SESSIONS:
        frr.configure(session, "shutdown")
        event = us.until(session, lambda event: event.state == "down")
        assert (event.diagnostic, event.remote_state) == ("neighbor-signaled-down", "admin-down"), event
    for session in SESSIONS:
        frr.configure(session, "no shutdown")
        us.until(session, lambda event: event.state == "up")


def test_new_intervals_of_the_peer_are_negotiated_while_the_session_stays_up(us, network, frr):
    expect_up(us)
    frr.configure("single4", "transmit-interval 200")
    frr.configure("single4", "receive-interval 100")
    us.until_intervals("single4", (100_000, 600_000))
    frr.until("single4", "remote-transmit-interval", 50)
    assert us.status("single4")[0] == "up"


def test_a_clean_stop_tells_the_peer_that_it_is_no_failure(network, frr):
    us = Speaker(network, "us", SESSIONS)
    try:
        expect_up(us)
        us.close()
        for session in SESSIONS:
            frr.until(session, "remote-diagnostic", "administratively down")
    finally:
        us.kill()


@pytest.mark.parametrize("ttl", [255, 254, 1])
@pytest.mark.parametrize("session", ["single4", "single6"])
def test_only_packets_that_no_router_forwarded_count_for_a_single_hop(network, us, session, ttl):
    """A Down packet of another session's discriminator: with TTL 255 it starts the session, with less it is dropped."""
    _, ours, theirs = SESSIONS[session]
    family = socket.AF_INET6 if ":" in ours else socket.AF_INET
    packet = struct.pack("!BBBBIIIII", 0x20, 1 << 6, 3, 24, 7777, 0, 1_000_000, 1_000_000, 0)
    with inside(network.name("peer")):
        sender = socket.socket(family, socket.SOCK_DGRAM)
    with sender:
        level, option = ((socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if family == socket.AF_INET6
                         else (socket.IPPROTO_IP, socket.IP_TTL))
        sender.setsockopt(level, option, ttl)
        sender.bind((theirs, 0))
        sender.sendto(packet, (ours, 3784))
    if ttl == 255:
        assert us.until(session, lambda event: True).state == "init"
        return
    until = time.monotonic() + DEADLINE_SECONDS
    while us.counters()["ttl"] == 0:
        assert time.monotonic() < until
    assert us.status(session)[0] == "down" and us.counters()["received"] == 0


STEADY_SECONDS = 20.0


@pytest.fixture
def wide(network):
    sessions = wide_sessions(64)
    assert len(sessions) == 64
    network.widen(sessions)
    yield sessions
    network.narrow()


@pytest.mark.parametrize("kind", [Bird, Frr])
def test_64_sessions_at_50_ms_stay_up_and_only_those_on_a_cut_link_fall(network, folder, wide, kind):
    us = Speaker(network, "us", wide)
    peer = kind(network, folder, wide)
    try:
        peer.run()
        for session in wide:
            us.until(session, lambda event: event.state == "up")
        for session in wide:
            us.until_intervals(session, NEGOTIATED)
        # What comes from here on counts, and what came since a session first rose: it must be nothing.
        before = us.counters()
        flaps = us.events_within(STEADY_SECONDS)
        assert flaps == []
        after = us.counters()
        # At least one packet in each 50 ms, at most a quarter faster; with room for a machine that is late.
        received, due = after["received"] - before["received"], 64 * STEADY_SECONDS / 0.05
        assert 0.8 * due < received < 1.4 * due
        assert all(us.status(session)[:3] == ("up", "none", "up") for session in wide)

        on_the_link = [session for session, (*_, link) in wide.items() if link == "second"]
        assert len(on_the_link) == 32
        cut = time.monotonic_ns()
        network.ip("peer", "link", "set", "second", "down")
        for session in on_the_link:
            event = us.until(session, lambda event: True)
            assert (event.state, event.diagnostic) == ("down", "detection-time-expired"), event
            assert event.nanoseconds - cut < 1000 * MILLISECOND, event
        assert us.events_within(2.0) == []
        assert all(us.status(session)[0] == ("down" if session in on_the_link else "up") for session in wide)
    finally:
        us.kill()
        peer.kill()

"""The demo keeps its promises: what it prints is what the JSON file says, and the figures are within their targets."""
import json
import os
import subprocess

import pytest

from conftest import REPOSITORY, lab_name, leftovers

NAME = lab_name("demo")
KINDS = {"sending", "waiting", "downloading"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One run: its output and its figures."""
    path = tmp_path_factory.mktemp("demo") / "figures.json"
    build = os.environ.get("DETOUR_BUILD", str(REPOSITORY / "build"))
    done = subprocess.run([str(REPOSITORY / "tools" / "demo"), "--no-build", "--build", build, "--name", NAME, "--json",
                           str(path)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    return done.stdout, json.loads(path.read_text())


def test_traffic_moved_and_came_back(demo):
    output, figures = demo
    assert "the traffic moved and came back" in output
    assert all(figures[name] for name in ("moved", "came_back", "drain_moved", "drain_came_back"))


def test_every_figure_is_there_under_its_name(demo):
    _, figures = demo
    for name in ("verdict_ms", "switch_ms", "first_ok_ms", "all_ok_ms", "new_failed", "bystanders_disturbed",
                 "drain_failed"):
        assert isinstance(figures[name], (int, float)), name
    for name in ("reconnect_p50_ms", "reconnect_p99_ms"):
        assert set(figures[name]) == KINDS
    assert figures["new_connections"] > 10_000
    assert all(count > 0 for count in figures["long_lived_on_dark_site"].values())


def test_the_failover_is_quick_and_touches_only_the_dark_sites_clients(demo):
    output, figures = demo
    assert figures["all_ok_ms"] < 2000, output[-6000:]
    assert figures["verdict_ms"] < 1000
    assert figures["bystanders_disturbed"] == 0
    assert figures["prediction_mismatches"] == 0
    assert figures["uploads_failed_elsewhere"] == 0


def test_the_drain_and_the_ramp_back_fail_no_request(demo):
    assert demo[1]["drain_failed"] == 0, demo[0][-6000:]


def test_long_lived_clients_come_back_at_once_whether_they_send_or_not(demo):
    output, figures = demo
    for kind in KINDS:
        assert figures["never_reconnected"][kind] == 0, output[-6000:]
        assert figures["reconnect_p99_ms"][kind] < 1000, output[-6000:]


def test_the_demo_leaves_nothing(demo):
    assert leftovers(NAME) == []

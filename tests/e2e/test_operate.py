"""What operators do, in the lab: drains of a part and with a deadline, holds, weights, incidents, configurations on
trial; and that a restart of the control process in the middle of each is no event."""
import re
import signal
import time

import pytest

from conftest import lab_name
from netlab.lab import Lab
from netlab.processes import wait_for
from netlab.topology import VIP4
from test_failover import SITES, Session, events, happened, healthy, last_event, predictions, sessions, site


@pytest.fixture(scope="module")
def lab():
    with Lab(lab_name("op"), rtt_ms=20, failover={"ramp": "1s"}) as running:
        yield running


@pytest.fixture(autouse=True)
def settled(lab):
    yield
    lab.lbctl("release", check=False)
    for name in SITES:
        lab.restore(name)
        lab.lbctl("undrain", name, check=False)
        lab.lbctl("weight", name, "--clear", check=False)
    wait_for("all sites healthy and admitted", lambda: all(healthy(lab, name) for name in SITES), 30)


def restart_control(lab):
    mark = last_event(lab)
    lab.signal("control", signal.SIGKILL)
    wait_for("control gone", lambda: not lab.alive("control"), 30)
    lab.restart("control")
    wait_for("control answers", lambda: lab.lbctl("status", check=False).returncode == 0, 10)
    wait_for("control has adopted", lambda: happened(lab, mark, "adopted"), 10)
    return mark


def read_anew(lab):
    """SIGHUP, and the reload that follows."""
    mark = last_event(lab)
    lab.signal("control", signal.SIGHUP)
    wait_for("the reload", lambda: happened(lab, mark, "reload"), 10)


def some_flows():
    return [(f"198.18.{1 + i // 250}.{1 + i % 250}", 20000 + i, VIP4) for i in range(3000)]


def switches_since(lab, mark):
    return [e for e in events(lab, mark) if e["kind"] in ("switch", "strand") or
            (e["kind"] == "verdict" and e["data"]["from"] != "unknown")]


def test_a_drain_of_a_part_moves_that_part_and_no_other_flow(lab):
    flows = some_flows()
    before = predictions(lab, flows)
    assert lab.lbctl("drain", "pangyo", "--percent", "40").returncode == 0
    after = predictions(lab, flows)
    moved = [b for b, a in zip(before, after) if a != b]
    assert set(moved) == {"pangyo"}
    assert 0.35 < len(moved) / before.count("pangyo") < 0.45
    mark = restart_control(lab)
    assert predictions(lab, flows) == after
    read_anew(lab)
    assert predictions(lab, flows) == after
    assert site(lab, "pangyo")["admit"] == pytest.approx(0.6, abs=0.001)
    time.sleep(1.5)  # several probe rounds: nothing may change
    assert not switches_since(lab, mark)


def test_a_drain_now_ends_the_established_connections_and_others_stay(lab):
    made = sessions(lab, 30)
    there = [s for s in made if s.site == "pangyo"]
    assert there
    assert lab.lbctl("drain", "pangyo", "--now").returncode == 0
    for s in there:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(20):
                s.ask()
    for s in made:
        if s.site != "pangyo":
            assert s.ask() == s.site
    assert Session(lab).site != "pangyo"


def test_at_a_drains_deadline_the_established_connections_end_and_not_before(lab):
    made = sessions(lab, 30)
    there = [s for s in made if s.site == "pangyo"]
    assert there
    begin = time.monotonic()
    assert lab.lbctl("drain", "pangyo", "--deadline", "6s").returncode == 0
    while time.monotonic() - begin < 4:
        assert all(s.ask() == "pangyo" for s in there)
    restart_control(lab)  # the deadline is on disk
    for s in there:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while time.monotonic() - begin < 20:
                s.ask()
    assert time.monotonic() - begin > 5.9
    for s in made:
        if s.site != "pangyo":
            assert s.ask() == s.site


def test_waiting_for_a_drain_shows_the_flows_that_are_left_and_ends_when_they_are_gone(lab):
    made = [s for s in sessions(lab, 30) if s.site == "anyang"]
    assert made
    waited = lab.lbctl("drain", "anyang", "--wait", "--timeout", "8s", check=False)
    assert waited.returncode == 5, waited.stderr
    assert re.search(r"[1-9]\d* flows? left", waited.stderr), waited.stderr
    assert lab.lbctl("drain", "anyang", "--now").returncode == 0
    for s in made:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(20):
                s.ask()
    waited = lab.lbctl("drain", "anyang", "--now", "--wait", "--timeout", "60s", check=False)
    assert waited.returncode == 0, waited.stderr


def test_a_hold_keeps_a_dark_site_over_a_restart_until_it_is_released(lab):
    assert lab.lbctl("hold", "--for", "10m", "--reason", "storm").returncode == 0
    for words in (["status"], ["sites"], ["pools"]):
        assert "on hold" in lab.lbctl(*words).stdout.lower(), words
    lab.darken("pangyo")
    wait_for("an alarm", lambda: happened(lab, 0, "alarm", "pangyo"), 10)
    assert site(lab, "pangyo")["admit"] == 1
    mark = restart_control(lab)
    time.sleep(2)  # longer than a verdict takes
    # The verdict says what is seen; nothing follows from it.
    assert not [e for e in switches_since(lab, mark) if e["kind"] != "verdict"]
    assert site(lab, "pangyo")["admit"] == 1
    assert lab.lbctl_json("status")["hold"]["reason"] == "storm"
    assert lab.lbctl("release").returncode == 0
    wait_for("pangyo to take no new flow", lambda: site(lab, "pangyo")["admit"] == 0, 10)


def test_a_weight_moves_its_share_and_outlives_a_restart(lab):
    flows = some_flows()
    before = predictions(lab, flows).count("pangyo")
    assert lab.lbctl("weight", "pangyo", "50", "--for", "10m").returncode == 0
    after = predictions(lab, flows)
    assert after.count("pangyo") < 0.75 * before
    restart_control(lab)
    assert predictions(lab, flows) == after
    read_anew(lab)
    assert predictions(lab, flows) == after
    assert lab.lbctl("weight", "pangyo", "--clear").returncode == 0
    assert predictions(lab, flows).count("pangyo") == before


def test_a_changed_configuration_wins_over_a_weight_and_says_so_also_while_nobody_was_there(lab):
    original = lab.config_text()
    weighed = lab.lbctl_json("backends")[0]["address"]
    changed = re.sub(rf'(address = "{re.escape(weighed)}"\nweight = )100', r"\g<1>60", original)
    assert changed != original

    def weight_of():
        return next(b["weight"] for b in lab.lbctl_json("backends") if b["address"] == weighed)

    assert lab.lbctl("weight", weighed, "25").returncode == 0
    assert len(lab.lbctl_json("status")["weights"]) == 1
    mark = last_event(lab)
    try:
        lab.write_config(changed)
        told = lab.lbctl("config", "diff").stdout
        assert "the weight 25 of " + weighed in told, told
        restart_control(lab)
        assert weight_of() == 60
        assert not lab.lbctl_json("status").get("weights")
        assert any("the configuration has another weight now" in e["text"] for e in events(lab, mark))
    finally:
        lab.write_config(original)
        assert lab.lbctl("config", "apply").returncode == 0


def test_a_bad_file_is_refused_whole_by_a_signal_and_by_watching_and_a_good_one_is_taken(lab):
    original = lab.config_text()
    changed = original.replace("weight = 100", "weight = 50", 1)
    bad = changed + "\n[failover]\nramp = 3\n"

    def weights():
        return sorted(b["weight"] for b in lab.lbctl_json("backends"))

    before = weights()
    command = lab._processes["control"]["command"]
    try:
        mark = last_event(lab)
        lab.write_config(bad)
        lab.signal("control", signal.SIGHUP)
        wait_for("the refusal", lambda: happened(lab, mark, "alarm"), 10)
        assert weights() == before
        shown = lab.lbctl("config", "show").stdout
        assert "REFUSED" in shown and str(lab.config_path) in shown
        assert "REFUSED" in lab.lbctl("status").stdout.upper()
        lab.write_config(changed)
        read_anew(lab)
        assert weights() != before
        lab.write_config(original)
        read_anew(lab)
        assert weights() == before
        lab._processes["control"]["command"] = [*command, "--watch"]
        restart_control(lab)
        mark = last_event(lab)
        lab.write_config(bad)
        wait_for("the refusal of the changed file", lambda: happened(lab, mark, "alarm"), 10)
        assert weights() == before
        lab.write_config(changed)
        wait_for("the changed file in force", lambda: weights() != before, 10)
        late = lab.lbctl("config", "apply", "--confirm-within", "1s", check=False)  # nothing is left to be tried
        assert late.returncode == 2 and "in force already" in late.stderr, late
    finally:
        lab._processes["control"]["command"] = command
        lab.write_config(original)
        restart_control(lab)
    assert weights() == before


def test_a_power_cut_is_an_incident_with_its_timeline_also_over_a_restart(lab):
    known = {i["number"] for i in lab.lbctl_json("incidents")}
    there = [s for s in sessions(lab, 20) if s.site == "pangyo"]
    assert there
    lab.darken("pangyo")
    wait_for("pangyo dark", lambda: site(lab, "pangyo")["verdict"] == "dark", 10)
    wait_for("its switch", lambda: any(i["number"] not in known and "switched_ms" in i
                                       for i in lab.lbctl_json("incidents")), 10)
    number = next(i["number"] for i in lab.lbctl_json("incidents") if i["number"] not in known)
    restart_control(lab)
    assert [i["number"] for i in lab.lbctl_json("incidents") if "closed" not in i] == [number]
    # Nobody asks anything of those connections: the sweep ends them.
    wait_for("the last flow gone", lambda: any(line["kind"] == "flows_gone" for line in
                                               lab.lbctl_json("incidents", str(number))["lines"]), 90)
    lab.restore("pangyo")
    wait_for("the incident's end", lambda: "closed" in lab.lbctl_json("incidents", str(number)), 30)
    incident = lab.lbctl_json("incidents", str(number))
    kinds = [line["kind"] for line in incident["lines"]]
    at = 0
    for kind in ("probe_missed", "suspect", "verdict", "switch", "switch_done", "strand", "flows_gone", "ramp_started",
                 "ramp_done", "closed"):
        assert kind in kinds[at:], (kind, kinds)
        at = kinds.index(kind, at)
    assert "adopted" in kinds and "backend_down" in kinds
    for line in incident["lines"]:
        decided = line["kind"] in ("suspect", "switch", "strand", "ramp_started", "backend_down")
        assert not decided or line.get("rule"), line
    times = [line["at_ms"] for line in incident["lines"]]
    assert times == sorted(times)
    assert 0 < incident["switched_ms"] < 2000
    shown = lab.lbctl("incidents", str(number)).stdout
    assert "pangyo is dark" in shown and "RULE" in shown


def test_a_configuration_on_trial_is_taken_back_over_a_restart(lab):
    original = lab.config_text()
    changed = original.replace("weight = 100", "weight = 50", 1)
    assert changed != original

    def weights():
        return sorted(b["weight"] for b in lab.lbctl_json("backends"))

    before = weights()
    try:
        lab.write_config(changed)
        diff = lab.lbctl_json("config", "diff")
        assert diff["changed"] and diff["pools"]
        assert weights() == before
        applied = lab.lbctl_json("config", "apply", "--confirm-within", "8s")
        assert applied["changed"] and weights() != before
        restart_control(lab)
        assert weights() != before
        wait_for("the one before", lambda: weights() == before, 20)
        assert "not confirmed" in lab.lbctl("status").stdout
        restart_control(lab)  # the disk still has the other one
        assert weights() == before
        assert lab.lbctl("config", "apply", "--confirm-within", "60s").returncode == 0
        assert lab.lbctl("config", "confirm").returncode == 0
        assert weights() != before
    finally:
        lab.write_config(original)
        assert lab.lbctl("config", "apply").returncode == 0
    assert weights() == before


def test_an_audit_names_each_domain(lab):
    audit = lab.lbctl_json("audit")
    assert {d["domain"] for d in audit["domains"] if not d["whole_fleet"]} >= set(SITES)
    assert all(0 <= p["survives"] <= 1 for p in audit["pools"])


def test_a_drill_leaves_nothing_behind(lab):
    report = lab.lbctl_json("drill", "chuncheon", "--percent", "10", "--for", "2s")
    assert report["undone"] and not report["incidents"]
    assert lab.lbctl_json("status")["drains"] == []
    wait_for("chuncheon whole again", lambda: healthy(lab, "chuncheon"), 20)

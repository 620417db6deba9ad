"""The demo's figures on made-up stories whose figures can be told by hand."""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from netlab import report  # noqa: E402

S = 1_000_000_000
CUT = 10 * S
MARKS = {"begin": 1 * S, "cut": CUT, "restored": 20 * S, "returned": 25 * S, "drain": 27 * S, "drained": 29 * S,
         "undrain": 33 * S, "undrained": 38 * S, "end": 42 * S}


def row(number, start, *, ms=105.0, site="anyang", result="ok", slot=0, kind="new", first=None, retries=0):
    return {"id": number, "kind": kind, "slot": slot, "start_ns": int(start), "done_us": int(ms * 1000),
            "result": result, "site": site, "first_us": first, "syn_retries": retries}


def event(kind, at, **data):
    return {"kind": kind, "site": "pangyo", "time_ns": int(at), "data": data}


def calm(placed):
    """A connection each 100 ms of every site, all well, moved and returned as they should be."""
    rows = []
    for number in range(410):
        start = S + number * S // 10
        planned = ("pangyo", "anyang", "chuncheon")[number % 3]
        site = planned
        if planned == "pangyo" and CUT <= start < MARKS["restored"]:
            site = "anyang"
        if planned == "anyang" and MARKS["drain"] <= start < MARKS["undrain"]:
            site = "chuncheon"
        placed[number] = planned
        # The last SYNs before the cut were answered before it.
        rows.append(row(number, start - (S // 5 if CUT - S // 10 <= start < CUT else 0), site=site))
    return rows


@pytest.fixture
def story():
    placed: dict[int, str] = {}
    return report.Story("pangyo", "anyang", 50, 2000, dict(MARKS), calm(placed),
                        [event("verdict", CUT + S * 0.4, **{"from": "suspect", "to": "dark"}),
                         {"kind": "switch_done", "time_ns": int(CUT + S * 0.4015), "data": {"switch_us": 350}},
                         event("strand", CUT + S * 2.4)], placed)


def add(story, placed, **fields):
    number = 1000 + len(story.rows)
    start = fields.pop("start")
    story.rows.append(row(number, start, **fields))
    if placed:
        story.placed[number] = placed
    return number


def test_a_perfect_failover(story):
    result = report.figures(story)
    assert (result["verdict_ms"], result["switch_ms"], result["switch_store_us"]) == (400.0, 1.5, 350)
    assert 100 <= result["first_ok_ms"] <= 500
    assert result["all_ok_ms"] == 0
    assert result["bystanders_disturbed"] == result["drain_failed"] == result["new_failed"] == 0
    assert result["prediction_mismatches"] == 0
    assert result["moved"] and result["came_back"] and result["drain_moved"] and result["drain_came_back"]


def test_all_ok_counts_a_clients_own_syn_retry_and_tells_it_apart(story):
    add(story, "pangyo", start=CUT + S * 0.2, ms=1110, retries=1)
    result = report.figures(story)
    assert (result["all_ok_ms"], result["all_ok_start_ms"], result["syn_retries"]) == (1310.0, 200.0, 1)
    assert result["bystanders_disturbed"] == 0


@pytest.mark.parametrize("late_ms,expected", [(300.0, 0), (300.1, 800.1)])
def test_all_ok_allows_a_quarter_second_beyond_the_round_trip(story, late_ms, expected):
    add(story, "pangyo", start=CUT + S * 0.5, ms=late_ms)
    assert report.figures(story)["all_ok_ms"] == expected


def test_a_failed_connection_counts_until_it_gave_up(story):
    add(story, "pangyo", start=CUT + S, ms=5000, result="timeout", site="")
    result = report.figures(story)
    assert (result["all_ok_ms"], result["new_failed"]) == (6000.0, 1)


def test_what_was_under_way_at_the_cut_is_told_apart(story):
    add(story, "pangyo", start=CUT - S * 0.05, ms=2600, result="reset", site="")
    result = report.figures(story)
    assert (result["in_flight_failed"], result["new_failed"], result["bystanders_disturbed"]) == (1, 0, 0)


@pytest.mark.parametrize("fields", [
    dict(result="reset"), dict(site="chuncheon"), dict(retries=1, ms=1105),
    dict(result="reset", kind="sending", slot=4, start=2 * S, ms=9000)])
def test_a_bystander_that_fails_moves_retries_or_ends_is_disturbed(story, fields):
    add(story, "anyang", **{"start": CUT + S, **fields})
    assert report.figures(story)["bystanders_disturbed"] == 1


def test_reconnects_count_from_the_strand_and_never_is_not_a_number(story):
    for slot, kind, back in ((1, "sending", 2.9), (2, "sending", 3.4), (3, "waiting", None), (4, "downloading", 11.0)):
        add(story, None, start=2 * S, ms=10_500, site="pangyo", result="reset", slot=slot, kind=kind, first=100_000)
        if back is not None:
            add(story, None, start=CUT + int((back - 0.1) * S), site="anyang", slot=slot, kind=kind, first=100_000,
                result="stopped", ms=30_000)
    result = report.figures(story)
    assert result["reconnect_p50_ms"] == {"sending": 500.0, "waiting": None, "downloading": None}
    assert result["reconnect_p99_ms"] == {"sending": 1000.0, "waiting": None, "downloading": None}
    assert result["never_reconnected"] == {"sending": 0, "waiting": 1, "downloading": 1}  # 11 s: the power was back
    assert result["bystanders_disturbed"] == 0


def test_a_request_that_fails_in_the_drain_or_the_ramp_back_counts(story):
    add(story, "chuncheon", start=28 * S, result="reset")
    add(story, "anyang", start=35 * S, result="timeout", ms=5000)
    add(story, None, start=2 * S, ms=26_000, result="closed", kind="downloading", slot=7)
    add(story, None, start=2 * S, ms=26_000, result="timeout", kind="waiting", slot=8, site="pangyo")  # the cut's doing
    assert report.figures(story)["drain_failed"] == 3


@pytest.mark.parametrize("spoil,verdict", [
    (lambda r, p: CUT + 3 * S <= r["start_ns"] < MARKS["restored"] and p == "pangyo", "moved"),
    (lambda r, p: r["start_ns"] >= MARKS["returned"] and p == "pangyo", "came_back"),
    (lambda r, p: r["start_ns"] >= MARKS["undrain"] and p == "anyang", "drain_came_back")])
def test_the_verdict_needs_the_clients_to_have_seen_it(story, spoil, verdict):
    for r in story.rows:
        if spoil(r, story.placed[r["id"]]):
            r["result"] = "timeout"
    assert not report.figures(story)[verdict]


def test_a_drained_site_that_still_gets_connections_is_not_drained(story):
    add(story, "anyang", start=30 * S, site="anyang")
    assert not report.figures(story)["drain_moved"]


def test_a_connection_that_went_elsewhere_in_quiet_times_is_a_mismatch(story):
    add(story, "pangyo", start=3 * S, site="anyang")
    add(story, "pangyo", start=40 * S, site="chuncheon")
    assert report.figures(story)["prediction_mismatches"] == 2


def test_without_a_verdict_there_is_no_figure(story):
    story.events.clear()
    result = report.figures(story)
    assert result["verdict_ms"] is None and result["switch_ms"] is None


def test_event_times_are_read_to_the_microsecond():
    assert report.event_ns({"time": "2026-05-01T03:04:05.678901Z"}) % S == 678_901_000
    assert report.event_ns({"time": "2026-05-01T03:04:05Z"}) == report.event_ns({"time": "2026-05-01T03:04:05.000000Z"})

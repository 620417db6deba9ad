"""The demo's figures, from what the clients logged and what Detour's events say. Pure: no lab, no clock.

Definitions (times in ms; the cut, the events and the clients use the same clock):

    verdict_ms            cut -> the event that calls the site dark
    switch_ms             that event -> the event that says that the last worker has passed the switch
    switch_store_us       of it, inside the fast path: first store -> last worker
    first_ok_ms           cut -> the first completed connection of those that the plan had placed on the dark site
    all_ok_ms             cut -> the moment from which on all of those complete within 250 ms beyond the round
                          trip. A late one counts until it is served (or gives up), so a client's own SYN retry is
                          included
    all_ok_start_ms       the same by the start of the last late one: without the client's retry
    new_failed            new connections that were started while the site was dark and failed, of any site
    in_flight_failed      connections that were under way to the dark site at the cut, and failed
    reconnect_p50_ms, reconnect_p99_ms   by kind of long-lived client of the dark site: end of strand_after -> first
                          answer on its next connection; null when that many never came back before the power did
    bystanders_disturbed  connections of other sites that failed, moved, or repeated a SYN while the site was dark, and
                          long-lived ones that ended
    drain_failed          connections of any site that failed from the drain to the end, and long-lived ones that ended
    prediction_mismatches connections of quiet times that went elsewhere than the plan says
"""
from __future__ import annotations

import datetime
import math
from dataclasses import dataclass, field

KINDS = ("sending", "waiting", "downloading")
MARGIN_MS = 250
ALIVE = ("stopped", "ok")


@dataclass
class Story:
    """What happened when, CLOCK_REALTIME ns. `placed`: for each connection id the site that the plan had placed it on."""

    dark_site: str
    drained_site: str
    rtt_ms: float
    strand_after_ms: float
    marks: dict[str, int]  # begin, cut, restored, returned, drain, drained, undrain, undrained, end
    rows: list[dict] = field(default_factory=list)
    events: list[dict] = field(default_factory=list)
    placed: dict[int, str] = field(default_factory=dict)


def event_ns(event: dict) -> int:
    """An event's time: `time_ns`, or `time` as RFC 3339 with up to six digits."""
    if "time_ns" in event:
        return int(event["time_ns"])
    moment = datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00"))
    seconds = int(moment.replace(microsecond=0).timestamp())
    return seconds * 1_000_000_000 + moment.microsecond * 1000


def event_value(event: dict, name: str):
    """A figure of an event, wherever it is kept."""
    return event.get("data", {}).get(name, event.get(name))


def find_event(events: list[dict], kind: str, site: str | None, after: int, **wanted) -> dict | None:
    """The first of that kind since `after`; site None: of any or no site."""
    for event in sorted(events, key=event_ns):
        if event.get("kind") == kind and site in (None, event.get("site")) and event_ns(event) >= after:
            if all(event_value(event, key) == value for key, value in wanted.items()):
                return event
    return None


def done_ns(row: dict) -> int:
    return row["start_ns"] + row["done_us"] * 1000


def ms(ns: int) -> float:
    return round(ns / 1e6, 3)


def percentile(values: list[float], share: float) -> float | None:
    """Nearest rank. Infinity stands for "never" and comes out as None."""
    if not values:
        return None
    value = sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
    return None if math.isinf(value) else round(value, 1)


def between(rows: list[dict], begin: int, end: int) -> list[dict]:
    return [r for r in rows if begin <= r["start_ns"] < end]


def single(rows: list[dict]) -> list[dict]:
    """Connections with one request: new ones and uploads."""
    return [r for r in rows if r["slot"] == 0]


def figures(story: Story) -> dict:
    """Everything, under the names of the JSON file."""
    result: dict = {}
    result.update(detour_times(story))
    result.update(moved_clients(story))
    result.update(reconnects(story, result["strand_ns"]))
    del result["strand_ns"]
    result["bystanders_disturbed"] = len(disturbed(story))
    result["drain_failed"] = len(failed_by_drain(story))
    result["prediction_mismatches"] = len(mismatches(story))
    result["new_connections"] = sum(r["kind"] == "new" for r in story.rows)
    result["uploads"] = sum(r["kind"] == "upload" for r in story.rows)
    result["uploads_failed_elsewhere"] = sum(
        r["kind"] == "upload" and r["result"] not in ALIVE and r["site"] != story.dark_site
        and story.placed.get(r["id"]) != story.dark_site for r in story.rows)
    result.update(verdicts(story))
    return result


def detour_times(story: Story) -> dict:
    cut = story.marks["cut"]
    verdict = find_event(story.events, "verdict", story.dark_site, cut, to="dark")
    if verdict is None:
        return {"verdict_ms": None, "switch_ms": None, "switch_store_us": None, "strand_ns": None}
    decided = event_ns(verdict)
    # The fast path's answer to the switch: it says how long its workers took, its time when we knew.
    done = find_event(story.events, "switch_done", None, decided)
    strand = find_event(story.events, "strand", story.dark_site, decided)
    strand_ns = event_ns(strand) if strand else decided + int(story.strand_after_ms * 1e6)
    return {"verdict_ms": ms(decided - cut), "switch_ms": ms(event_ns(done) - decided) if done else None,
            "switch_store_us": event_value(done, "switch_us") if done else None, "strand_ns": strand_ns}


def moved_clients(story: Story) -> dict:
    cut, restored = story.marks["cut"], story.marks["restored"]
    dark = [r for r in between(single(story.rows), cut, restored) if r["kind"] == "new"]
    mine = [r for r in dark if story.placed.get(r["id"]) == story.dark_site]
    served = [done_ns(r) for r in mine if r["result"] == "ok"]
    limit_us = (story.rtt_ms + MARGIN_MS) * 1000
    late = [r for r in mine if (r["result"] != "ok" or r["done_us"] > limit_us) and r["result"] != "stopped"]
    under_way = [r for r in single(story.rows) if r["start_ns"] < cut <= done_ns(r) and r["result"] not in ALIVE
                 and story.dark_site in (r["site"], story.placed.get(r["id"]))]
    never = not mine or not served
    return {
        "first_ok_ms": None if never else ms(min(served) - cut),
        "all_ok_ms": None if never else ms(max([done_ns(r) for r in late], default=cut) - cut),
        "all_ok_start_ms": None if never else ms(max([r["start_ns"] for r in late], default=cut) - cut),
        "new_failed": sum(r["result"] not in ALIVE for r in dark),
        "new_placed_on_dark_site": len(mine),
        "syn_retries": sum(r["syn_retries"] > 0 for r in mine),
        "in_flight_failed": len(under_way),
    }


def reconnects(story: Story, strand_ns: int | None) -> dict:
    """By kind: each long-lived client of the dark site, from the end of strand_after to its next first answer."""
    cut, restored = story.marks["cut"], story.marks["restored"]
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for row in story.rows:
        if row["slot"] == 0 or row["site"] != story.dark_site or not row["start_ns"] < cut <= done_ns(row):
            continue
        later = [r for r in story.rows if r["slot"] == row["slot"] and r["id"] > row["id"]]
        back = min((r["start_ns"] + r["first_us"] * 1000 for r in later if r["first_us"] is not None), default=None)
        never = strand_ns is None or back is None or back >= restored
        times[row["kind"]].append(math.inf if never else (back - strand_ns) / 1e6)
    return {
        "reconnect_p50_ms": {kind: percentile(values, 0.50) for kind, values in times.items()},
        "reconnect_p99_ms": {kind: percentile(values, 0.99) for kind, values in times.items()},
        "long_lived_on_dark_site": {kind: len(values) for kind, values in times.items()},
        "never_reconnected": {kind: sum(map(math.isinf, values)) for kind, values in times.items()},
    }


def disturbed(story: Story) -> list[dict]:
    """Connections of other sites that the failure touched."""
    cut, restored = story.marks["cut"], story.marks["restored"]
    found = []
    for row in story.rows:
        if row["slot"]:
            ended = cut <= done_ns(row) < restored and row["result"] not in ALIVE
            if ended and row["start_ns"] < cut and row["site"] != story.dark_site:
                found.append(row)
        elif done_ns(row) >= cut and row["start_ns"] < restored:
            placed = story.placed.get(row["id"])
            if placed is None or placed == story.dark_site or row["result"] == "stopped":
                continue
            if row["result"] != "ok" or row["site"] != placed or row["syn_retries"] > 0:
                found.append(row)
    return found


def failed_by_drain(story: Story) -> list[dict]:
    begin, cut = story.marks["drain"], story.marks["cut"]
    return [r for r in story.rows if done_ns(r) >= begin and r["result"] not in ALIVE
            # a client that the power cut left hanging and that only now gives up
            and not (r["start_ns"] < cut and story.dark_site in (r["site"], story.placed.get(r["id"])))]


def mismatches(story: Story) -> list[dict]:
    """While nothing is dark, drained or ramping, every connection goes where the plan says."""
    quiet = (("begin", "cut"), ("undrained", "end"))
    found = []
    for begin, end in quiet:
        rows = between(story.rows, story.marks[begin], story.marks[end]) if begin in story.marks else []
        found += [r for r in rows if r["site"] and r["id"] in story.placed and r["site"] != story.placed[r["id"]]
                  and not (begin == "begin" and done_ns(r) >= story.marks["cut"])]
    return found


def share(rows: list[dict], site: str) -> float:
    served = [r for r in rows if r["kind"] == "new" and r["result"] == "ok"]
    return sum(r["site"] == site for r in served) / len(served) if served else 0.0


def verdicts(story: Story) -> dict:
    """Did the traffic move, and did it come back? By what the clients saw."""
    m = story.marks
    before = between(story.rows, m["begin"], m["cut"])
    settled = 2_000_000_000
    dark = between(story.rows, m["cut"] + settled, m["restored"])
    back = between(story.rows, m.get("returned", m["end"]), m.get("drain", m["end"]))
    drained = between(story.rows, m.get("drained", m["end"]), m.get("undrain", m["end"]))
    undrained = between(story.rows, m.get("undrained", m["end"]), m["end"])
    had = {site: share(before, site) for site in (story.dark_site, story.drained_site)}
    placed_dark = [r for r in dark if r["kind"] == "new" and story.placed.get(r["id"]) == story.dark_site]
    moved = [r for r in placed_dark if r["result"] == "ok"]
    return {
        "moved": bool(placed_dark) and len(moved) >= 0.99 * len(placed_dark) and share(dark, story.dark_site) == 0,
        "came_back": had[story.dark_site] > 0 and share(back, story.dark_site) >= 0.8 * had[story.dark_site],
        "drain_moved": bool(drained) and share(drained, story.drained_site) == 0,
        "drain_came_back": had[story.drained_site] > 0
        and share(undrained, story.drained_site) >= 0.8 * had[story.drained_site],
    }

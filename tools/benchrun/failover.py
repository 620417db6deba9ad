"""How long clients suffer from a site's failure, measured in the lab: from the cut to the switch, and to the moment from
which every new connection works.

Kinds of failure and of detection:
    probes   the site's power is cut; probes alone see it, with the example configuration's defaults
    bfd      the same, with a BFD session of 50 ms x 3 to the site's router (BIRD)
    passive  the site's own link to the internet is cut while its backbone works: probes succeed, and only the handshakes
             that do not complete show it

Times are ms from the cut. `switch`: the last worker of the fast path passed the switch. `all_ok`: from then on every new
connection that the plan had placed on the site completes within 250 ms beyond the round trip; a client whose SYN was lost
waits for its own retry of a second, which `without_syn_retry` leaves out. The trickle that shows a passive failure's end is
exempt.
"""
from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from netlab import report  # noqa: E402: the path first
from netlab.lab import Lab  # noqa: E402
from netlab.processes import wait_for  # noqa: E402
from netlab.topology import VIP4, VIP6  # noqa: E402

SITE = "pangyo"
RTT_MS = 20
RATE = {"probes": 100, "bfd": 100, "passive": 100}  # new connections a second, at all sites together
RECOVERY_RATE = 600  # makes a trickle show sooner that it completes
TARGETS_MS = {"probes": {"switch_ms": 1000, "all_ok_without_syn_retry_ms": 1200},
              "bfd": {"switch_ms": 400, "all_ok_without_syn_retry_ms": 600},
              "passive": {"switch_ms": 1000}}
# The example configuration's.
HEALTH = {"interval": "200ms", "timeout": "200ms", "fast_interval": "50ms", "fall": 3, "rise": 2}
FIGURES = ("switch_ms", "all_ok_ms", "all_ok_without_syn_retry_ms")


@dataclass
class Run:
    """One failure; None: it did not come within the time."""

    switch_ms: float | None
    all_ok_ms: float | None
    all_ok_without_syn_retry_ms: float | None


def make_lab(name: str, build: str | Path | None = None) -> Lab:
    return Lab(name, rtt_ms=RTT_MS, build=build, bfd=True, health=HEALTH, failover={"ramp": "1s"})


class Load:
    """Clients in many prefixes, as many new connections a second as asked."""

    def __init__(self, lab: Lab, rate: int):
        self._path = lab.dir / "bench-load.jsonl"
        self._process = lab.popen("client", [
            lab.program("netlab-loadgen"), "--target", f"{VIP4}:80", "--target", f"[{VIP6}]:80", "--out", str(self._path),
            "--source", "198.19.0.1", "--source", "2001:db8:8000::1", "--prefixes", "120", "--new-rate", str(rate),
            "--report", "200"], stdout=subprocess.PIPE, text=True)
        self._process.stdout.readline()  # it runs

    def stop(self) -> list[dict]:
        self._process.terminate()
        self._process.communicate(timeout=30)
        return [json.loads(line) for line in self._path.read_text().splitlines()]


class Bench:
    """Failures of one site in one lab, one after the other."""

    def __init__(self, lab: Lab, seed: int):
        self.lab = lab
        self._random = random.Random(seed)
        self._with_bfd = lab.config_text()
        self._without_bfd = "".join(
            line for line in self._with_bfd.splitlines(keepends=True) if not line.startswith("probe ="))

    def prepare(self, kind: str) -> None:
        """The configuration of the kind, every site well."""
        self.lab.write_config(self._with_bfd if kind == "bfd" else self._without_bfd)
        self.lab.lbctl("reload")
        self._wait_healthy()
        if kind == "bfd":
            wait_for("BFD sessions up", lambda: all(
                session["state"] == "up" for site in self.lab.api("GET", "/v1/sites") for session in site["bfd"]), 20)

    def run(self, kind: str) -> Run:
        """One failure, to its end and back."""
        before = self.lab.api("GET", "/v1/events?limit=1")["last"]
        load = Load(self.lab, RATE[kind])
        try:
            # Any phase of the probes' interval and of the readings.
            time.sleep(1.5 + self._random.random() * 0.4)
            cut = self.lab.darken(SITE, "internet" if kind == "passive" else "both")
            wait_for("the switch", lambda: self._switch_ms(before, cut.before_ns) is not None, 15)
            time.sleep(max(0.0, 3.5 - (time.time_ns() - cut.before_ns) / 1e9))  # the load to judge
        finally:
            rows = load.stop()
        rows = [row for row in rows if report.done_ns(row) >= cut.before_ns]
        trickle = self._placed(rows) if kind == "passive" else []
        self.lab.restore(SITE)
        self._recover(kind)
        placed = self._placed(rows)
        switch = self._switch_ms(before, cut.before_ns)
        mine = {row["id"]: site for row, site in zip(rows, placed, strict=True)}
        if switch is not None:
            for row, now in zip(rows, trickle):
                if now == SITE:  # of the trickle: stays on purpose
                    mine[row["id"]] = "trickle"
        story = report.Story(SITE, "", RTT_MS, 2000, {"cut": cut.before_ns, "restored": time.time_ns()}, rows, [], mine)
        moved = report.moved_clients(story)
        return Run(switch, moved["all_ok_ms"], moved["all_ok_start_ms"])

    def _switch_ms(self, after: int, cut_ns: int) -> float | None:
        page = self.lab.api("GET", f"/v1/events?since={after}&limit=1000")
        done = report.find_event(page["events"], "switch_done", SITE, cut_ns)
        return report.ms(report.event_ns(done) - cut_ns) if done else None

    def _placed(self, rows: list[dict]) -> list[str]:
        """Where the fast path's tables and switches of now place each connection."""
        def address(host: str, port: int) -> str:
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

        flows = [{"source": address(r["src"], r["sport"]), "vip": address(r["dst"], r["dport"]) + "/tcp"} for r in rows]
        return [flow["site"] for flow in self.lab.api("POST", "/v1/trace", {"flows": flows}, timeout=60)]

    def _recover(self, kind: str) -> None:
        load = Load(self.lab, RECOVERY_RATE) if kind == "passive" else None
        try:
            self._wait_healthy()
        finally:
            if load:
                load.stop()

    def _wait_healthy(self) -> None:
        wait_for("every site healthy", lambda: all(
            site["verdict"] == "healthy" and site["admit"] >= 1 for site in self.lab.api("GET", "/v1/sites")), 60)


def summary(runs: list[Run]) -> dict[str, list[float]]:
    """Minimum, median and maximum of each figure. Raises RuntimeError when a run has none."""
    result = {}
    for figure in FIGURES:
        values = [getattr(run, figure) for run in runs]
        if None in values:
            raise RuntimeError(f"{figure}: {values.count(None)} of {len(values)} runs never came to it")
        result[figure] = [min(values), round(statistics.median(values), 3), max(values)]
    return result


def print_table(results: dict[str, dict[str, list[float]]]) -> None:
    print(f"{'':8} {'figure':28} {'min':>8} {'median':>8} {'max':>8}  target (max)")
    for kind, figures in results.items():
        for figure, (low, middle, high) in figures.items():
            target = TARGETS_MS[kind].get(figure)
            verdict = "" if target is None else f"under {target}: {'met' if high < target else 'MISSED'}"
            print(f"{kind:8} {figure:28} {low:8.0f} {middle:8.0f} {high:8.0f}  {verdict}".rstrip())


def measure(kinds: list[str], runs: int, build: Path, seed: int) -> dict[str, dict[str, list[float]]]:
    results = {}
    print(f"tools/bench: seed {seed}", file=sys.stderr, flush=True)
    with make_lab("benchfo", build) as lab:
        bench = Bench(lab, seed)
        for kind in kinds:
            bench.prepare(kind)
            done: list[Run] = []
            for number in range(1, runs + 1):
                run = bench.run(kind)
                done.append(run)
                print(f"{kind} {number}/{runs}: switch {run.switch_ms} ms, all ok {run.all_ok_ms} ms, without a client's "
                      f"SYN retry {run.all_ok_without_syn_retry_ms} ms", file=sys.stderr, flush=True)
            results[kind] = summary(done)
    return results

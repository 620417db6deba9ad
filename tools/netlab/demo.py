"""tools/demo: a site loses its power under load and its traffic moves; then it returns, and another one is drained.

Builds, brings a lab up, runs real TCP clients through the fast path, and prints a timeline while it happens. The
figures at the end are computed by report.py, which also says what each one means.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import report
from .lab import REPOSITORY, Lab
from .topology import TCP_PORTS, VIP4, VIP6

DARK, DRAINED = "pangyo", "anyang"
STRAND_AFTER_MS = 2000
# What the lab runs; the tests take much longer to compile and are not needed here.
NINJA = ("dataplane/detour-dataplane", "dataplane/bpf/steer.bpf.o", "control/detour-control", "tools/lbctl/lbctl",
         "tools/decap/detour-decap", "tools/netlab/netlab-relay", "tools/netlab/netlab-echo",
         "tools/netlab/netlab-loadgen")
TARGETS = {"all_ok_ms": 2000, "reconnect_p99_ms": 1000, "bystanders_disturbed": 0, "drain_failed": 0}


class Timeline:
    """What a person reads while it runs: one line per event and per second of load."""

    def __init__(self, begin_ns: int):
        self.begin_ns = begin_ns
        self.cut_ns = 0

    def say(self, text: str, at_ns: int | None = None) -> None:
        at = at_ns or time.time_ns()
        cut = f"{(at - self.cut_ns) / 1e9:+8.3f}" if self.cut_ns else " " * 8
        print(f"{(at - self.begin_ns) / 1e9:8.3f} {cut}  {text}", flush=True)

    def event(self, event: dict) -> None:
        self.say(f"  detour: {event['text']}", report.event_ns(event))


class Load:
    """The load generator, and its totals as they come."""

    def __init__(self, lab: Lab, rate: int, long_lived: int, out: Path):
        command = [lab.program("netlab-loadgen"), "--source", "198.18.1.1", "--source", "2001:db8:c:1::1",
                   "--new-rate", str(rate), "--long", str(long_lived), "--upload", "1MiB", "--upload-every", "500",
                   "--report", "500", "--out", str(out)]
        for port in TCP_PORTS:
            command += ["--target", f"{VIP4}:{port}", "--target", f"[{VIP6}]:{port}"]
        self.out = out
        self.process = lab.popen("client", command, stdout=subprocess.PIPE)
        os.set_blocking(self.process.stdout.fileno(), False)
        self._buffer = b""
        self.totals: dict = {}

    def read(self, seconds: float) -> list[dict]:
        """Totals that arrive within the time; each is the difference to the one before."""
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        if not ready:
            return []
        data = os.read(self.process.stdout.fileno(), 65536)
        if not data:
            raise RuntimeError(f"the load generator ended with status {self.process.wait()}")
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        return [self._difference(json.loads(line)) for line in lines]

    def _difference(self, totals: dict) -> dict:
        old, self.totals = self.totals, totals
        result = {"time_ns": totals["time_ns"], "open": totals["open"]}
        for key in ("new", "upload", "sending", "waiting", "downloading", "sites"):
            before = old.get(key, {})
            result[key] = {n: v - before.get(n, 0) for n, v in totals.get(key, {}).items() if v != before.get(n, 0)}
        return result

    def stop(self) -> list[dict]:
        os.set_blocking(self.process.stdout.fileno(), True)
        self.process.send_signal(signal.SIGTERM)
        self.process.stdout.read()
        if self.process.wait(30) != 0:
            raise RuntimeError("the load generator did not end well")
        return [json.loads(line) for line in self.out.read_text().splitlines()]


class Demo:
    def __init__(self, lab: Lab, rate: int, long_lived: int):
        self.lab = lab
        self.timeline = Timeline(time.time_ns())
        self.load = Load(lab, rate, long_lived, lab.dir / "load.json")
        self.events: list[dict] = []
        self.marks: dict[str, int] = {}
        self._last_event = self._newest_event()
        self._next_poll = 0.0
        self._second: list[dict] = []
        self.shares: dict[str, float] = {}

    # ---- watching ----

    def _newest_event(self) -> int:
        return self.lab.api("GET", "/v1/events?limit=1")["last"]

    def _poll_events(self) -> None:
        page = self.lab.api("GET", f"/v1/events?since={self._last_event}&limit=1000")
        for event in page["events"]:
            self._last_event = max(self._last_event, event["sequence"])
            self.events.append(event)
            self.timeline.event(event)

    def watch(self, seconds: float, until=None) -> bool:
        """Prints what happens. Ends after `seconds`, or as soon as until(difference) is true for a half-second's load;
        False when that did not come."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if time.monotonic() >= self._next_poll:
                self._next_poll = time.monotonic() + 0.2
                self._poll_events()
            for difference in self.load.read(0.1):
                self._print_load(difference)
                if until and until(difference):
                    return True
        return until is None

    def _print_load(self, difference: dict) -> None:
        self._second.append(difference)
        if len(self._second) < 2:
            return
        sites: dict[str, int] = {}
        failed: dict[str, int] = {}
        for part in self._second:
            for site, count in part["sites"].items():
                sites[site] = sites.get(site, 0) + count
            for kind in ("new", "upload", "sending", "waiting", "downloading"):
                for result, count in part[kind].items():
                    if result not in ("ok", "stopped"):
                        failed[f"{kind} {result}"] = failed.get(f"{kind} {result}", 0) + count
        at, self._second = self._second[-1]["time_ns"], []
        total = max(1, sum(sites.values()))
        self.shares = {name: sites.get(name, 0) / total for name in self.lab.topology.sites}
        text = "  ".join(f"{name} {sites.get(name, 0):4}" for name in self.lab.topology.sites)
        extra = ", ".join(f"{count} {what}" for what, count in failed.items())
        self.timeline.say(f"  clients: {text}" + (f"   ({extra})" if extra else ""), at)

    def mark(self, name: str, at_ns: int | None = None) -> None:
        self.marks[name] = at_ns or time.time_ns()

    # ---- the story ----

    def run(self) -> report.Story:
        try:
            return self._run()
        finally:
            if self.load.process.poll() is None:  # a failure on the way: --keep must not keep the load
                self.load.process.kill()

    def _run(self) -> report.Story:
        self.timeline.say("load: new connections, long-lived clients (sending, waiting, downloading), 1 MiB uploads")
        self.watch(3)
        self.mark("begin")
        self.watch(4)
        usual = dict(self.shares)
        self._cut_power()
        self._return_power(usual)
        self._drain(usual)
        self.watch(3)
        self.mark("end")
        rows = self.load.stop()
        self.timeline.say(f"load ended: {len(rows)} connections")
        self._poll_events()
        return report.Story(DARK, DRAINED, self.lab.options["rtt_ms"], STRAND_AFTER_MS, self.marks, rows, self.events,
                            self._placements(rows))

    def _cut_power(self) -> None:
        cut = self.lab.darken(DARK)
        self.timeline.cut_ns = cut.before_ns
        self.mark("cut", cut.before_ns)
        self.timeline.say(f"*** {DARK} loses its power", cut.before_ns)
        self.watch(9)

    def _return_power(self, usual: dict[str, float]) -> None:
        restored = self.lab.restore(DARK)
        self.mark("restored", restored.before_ns)
        self.timeline.say(f"*** {DARK} has power again", restored.before_ns)
        if not self.watch(45, lambda _: self.shares.get(DARK, 0) >= 0.85 * usual[DARK]):
            self.timeline.say(f"!!! {DARK} did not get its traffic back")
        self.watch(4)  # the ramp's end
        self.mark("returned")
        self.watch(2)

    def _drain(self, usual: dict[str, float]) -> None:
        self.mark("drain")
        self.timeline.say(f"*** lbctl drain {DRAINED} --for 30m --reason demo")
        self.lab.lbctl("drain", DRAINED, "--for", "30m", "--reason", "demo")
        if not self.watch(15, lambda d: d["new"].get("ok", 0) > 0 and d["sites"].get(DRAINED, 0) == 0):
            self.timeline.say(f"!!! {DRAINED} still gets new connections")
        self.mark("drained")
        self.watch(4)
        self.mark("undrain")
        self.timeline.say(f"*** lbctl undrain {DRAINED}")
        self.lab.lbctl("undrain", DRAINED)
        if not self.watch(45, lambda _: self.shares.get(DRAINED, 0) >= 0.85 * usual[DRAINED]):
            self.timeline.say(f"!!! {DRAINED} did not get its traffic back")
        self.watch(4)
        self.mark("undrained")

    def _placements(self, rows: list[dict]) -> dict[int, str]:
        """Where the plan places each connection when every site takes its share, asked in one call."""
        def address(host: str, port: int) -> str:
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

        flows = [{"source": address(r["src"], r["sport"]), "vip": address(r["dst"], r["dport"]) + "/tcp"} for r in rows]
        placements = self.lab.api("POST", "/v1/trace", {"flows": flows}, timeout=60)
        return {row["id"]: placement["site"] for row, placement in zip(rows, placements, strict=True)}


def print_figures(result: dict) -> None:
    print("\nmeasured at the clients and from Detour's events:\n")
    for name, value in result.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {'never' if v is None else v}" for k, v in value.items())
        target = f"   (target {'under ' if name.endswith('_ms') else ''}{TARGETS[name]})" if name in TARGETS else ""
        print(f"  {name:<26} {'-' if value is None else value}{target}")


def build(directory: Path) -> None:
    """tools/setup, meson, ninja: quick when there is nothing to do."""
    setup = REPOSITORY / "tools" / "setup"
    if setup.exists():
        subprocess.run([str(setup)], check=True)
    if not (directory / "build.ninja").exists():
        subprocess.run(["meson", "setup", str(directory), str(REPOSITORY)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", str(directory), *NINJA], check=True)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/demo",
        description="Cut a site's power under load and watch the traffic move, in a lab on this machine.")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--keep", action="store_true", help="leave the lab up (tools/lab status --name demo)")
    parser.add_argument("--build", type=Path, default=REPOSITORY / "build", help="build directory")
    parser.add_argument("--no-build", action="store_true", help="take what is built already")
    parser.add_argument("--name", default="demo", help="the lab's name (default demo)")
    parser.add_argument("--rate", type=int, default=500, help="new connections a second (default 500)")
    parser.add_argument("--long", type=int, default=60, help="long-lived clients (default 60)")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        raise RuntimeError("the demo needs root: it makes network namespaces and attaches XDP programs")
    if not options.no_build:
        build(options.build)
    lab = Lab(options.name, rtt_ms=50, build=options.build, health={"interval": "200ms", "fall": 2},
              failover={"strand_after": f"{STRAND_AFTER_MS}ms", "ramp": "3s"})
    lab.down()  # of an earlier --keep
    lab.up(keep=options.keep)
    try:
        story = Demo(lab, options.rate, options.long).run()
        result = report.figures(story)
    finally:
        if not options.keep:
            lab.down()
    print_figures(result)
    if options.json:
        result["machine"] = {"kernel": platform.release(), "cpus": os.cpu_count()}
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    proof = {name: result[name] for name in ("moved", "came_back", "drain_moved", "drain_came_back")}
    good = all(proof.values())
    missing = ", ".join(name for name, value in proof.items() if not value)
    print("\nthe traffic moved and came back" if good else f"\nnot shown: {missing}")
    return 0 if good else 1


def interrupted(number: int, _frame) -> None:
    raise SystemExit(128 + number)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    try:
        return run(options)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        print(f"tools/demo: {error}", file=sys.stderr)
        return 1

"""The command tools/bench."""
import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path

from benchrun import machine, probes
from benchrun.table import Rows, compare

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "tests/bench/bench_fastpath"


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench", description="Measures what a packet and a failure cost; docs/benchmarks.md.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    fast = verbs.add_parser("fastpath", help="the stages over mbufs with an ideal NIC, ns of CPU time per packet",
                            description="Exit status: 0 measured, 1 failed or a row is void, 2 wrong usage.")
    fast.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    fast.add_argument("--compare", type=Path, metavar="OLD.json", help="ratios to an earlier --json")
    fast.add_argument("--scenario", nargs="+", action="extend", default=[], metavar="NAME", help="only these")
    fast.add_argument("--seconds", type=float, default=0.3, metavar="S", help="of each of the rounds (default 0.3)")
    fast.add_argument("--rounds", type=int, default=7, metavar="N", help="of each scenario (default 7)")
    fast.add_argument("--packets", type=int, default=0, metavar="N",
                      help="a fixed number of packets a round instead of --seconds: for callgrind and the like")
    fast.add_argument("--flows", type=int, default=0, metavar="N", help="at most this many flows, tables as small")
    fast.add_argument("--cpu", type=int, default=None, metavar="N", help="run there (default: the last CPU)")
    fast.add_argument("--no-huge", action="store_true", help="ordinary pages")
    fast.add_argument("--stages", action="store_true", help="under each row, how many ns each stage takes")
    fast.add_argument("--list", action="store_true", help="list the scenarios, measure none")
    fast.add_argument("--build", type=Path, default=ROOT / "build", metavar="DIR", help="build folder (default: build)")
    probe = verbs.add_parser("probes", help="CPU time of probing many backends, nginx as the peer; needs root",
                             description="Exit status: 0 measured, 1 failed or over the target, 2 wrong usage.")
    probe.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    probe.add_argument("--seconds", type=int, default=15, metavar="S", help="of each row (default 15)")
    probe.add_argument("--tcp", type=int, default=10_000, metavar="N", help="backends, each probed once a second")
    probe.add_argument("--http", type=int, default=2_000, metavar="N", help="likewise; 0 leaves the row out")
    probe.add_argument("--https", type=int, default=500, metavar="N", help="likewise")
    probe.add_argument("--build", type=Path, default=ROOT / "build", metavar="DIR", help="build folder (default: build)")
    add_failover(verbs)
    add_shipped(verbs)
    return parser.parse_args(arguments)


def add_failover(verbs) -> None:
    failover = verbs.add_parser(
        "failover", help="from a site's failure to the switch and to clients that are well, in the lab (needs root)",
        description="Exit status: 0 measured, 1 failed, 2 wrong usage.")
    failover.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    failover.add_argument("--kind", action="append", choices=["probes", "bfd", "passive"], default=[],
                          help="only this kind of failure, may be repeated (default: all)")
    failover.add_argument("--runs", type=int, default=10, metavar="N", help="of each kind (default 10)")
    failover.add_argument("--seed", type=int, default=None, metavar="N", help="of the moments of the cuts")
    failover.add_argument("--build", type=Path, default=ROOT / "build", metavar="DIR", help="build folder (default: build)")


def add_shipped(verbs) -> None:
    verb = verbs.add_parser("shipped", help="the shipped program between net_pcap and net_null, by its own statistics",
                            description="Exit status: 0 measured, 1 failed or a row is void, 2 wrong usage.")
    verb.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    verb.add_argument("--seconds", type=float, default=10, metavar="S", help="of each row (default 10)")
    verb.add_argument("--flows", type=int, default=1000, metavar="N", help="at most some thousands: all frames lie in its buffers")
    verb.add_argument("--no-huge", action="store_true", help="ordinary pages")
    verb.add_argument("--build", type=Path, default=ROOT / "build", metavar="DIR", help="build folder (default: build)")


def build(folder: Path, program: str = PROGRAM) -> Path:
    """The program of this tree, brought up to date. BENCH_FASTPATH and the like name one that a test has built already."""
    if named := os.environ.get(Path(program).name.upper()):
        return Path(named)
    commands = [] if (folder / "build.ninja").exists() else [["meson", "setup", str(folder), str(ROOT)]]
    commands.append(["ninja", "-C", str(folder), program])
    for command in commands:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{done.stdout[-4000:]}{done.stderr[-2000:]}\ntools/bench: building failed")
    return folder / program


def command_of(program: Path, arguments: argparse.Namespace) -> list[str]:
    command = [str(program), "--seconds", str(arguments.seconds), "--rounds", str(arguments.rounds),
               "--packets", str(arguments.packets), "--flows", str(arguments.flows)]
    for name in arguments.scenario:
        command += ["--scenario", name]
    if arguments.cpu is not None:
        command += ["--cpu", str(arguments.cpu)]
    if arguments.no_huge:
        command.append("--no-huge")
    return command


def measure(command: list[str], show) -> tuple[dict, list[dict], int]:
    """How it was measured, the results, the exit status. `show(result)` is called for each as it comes."""
    method: dict = {}
    results = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout:
                value = json.loads(line)
                if "scenario" in value:
                    results.append(value)
                    show(value)
                else:
                    method = value
        except KeyboardInterrupt:
            process.terminate()  # it gives the huge pages back, between two rounds
            process.wait()
            raise
    return method, results, process.returncode


def as_text(document: dict) -> str:
    """JSON with one result a line, so that two of them can be read side by side."""
    head = {key: value for key, value in document.items() if key != "results"}
    lines = ",\n".join("  " + json.dumps(result) for result in document["results"])
    return json.dumps(head, indent=1).removesuffix("\n}") + ',\n "results": [\n' + lines + "\n ]\n}\n"


def fastpath(arguments: argparse.Namespace) -> int:
    old = None
    if arguments.compare:
        try:
            old = {r["scenario"]: r for r in json.loads(arguments.compare.read_text())["results"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"tools/bench: {arguments.compare} is no earlier result: {error}", file=sys.stderr)
            return 2
    program = build(arguments.build)
    if arguments.list:
        return subprocess.run([str(program), "--list"]).returncode
    described = machine.describe()
    print(described["text"], flush=True)
    print("\n".join(Rows.head()), flush=True)

    def show(row: dict) -> None:
        print(Rows.line(row), flush=True)
        if arguments.stages and (text := Rows.stages(row)):
            print(text, flush=True)

    method, results, status = measure(command_of(program, arguments), show)
    if status != 0:
        return status if status == 2 else 1
    print(f"Taking and giving back an mbuf: {method['take_and_free_ns']:.1f} ns, in no net figure. CPU {method['cpu']}, "
          f"bursts of {method['burst']}, {'2 MiB' if method['huge_pages'] else 'ordinary'} pages.")
    if old is not None:
        print("\n".join(compare(old, results)))
    if arguments.json:
        document = {"machine": described["text"], "commit": machine.commit(ROOT), "load": described["load"],
                    "method": method, "results": results}
        arguments.json.write_text(as_text(document))
    return 1 if any(r["void"] for r in results) else 0


def shipped(arguments: argparse.Namespace) -> int:
    program, wire = build(arguments.build, "dataplane/detour-dataplane"), build(arguments.build, "tests/e2e/dataplane_pb2.py")
    described = machine.describe()
    print(described["text"], flush=True)
    command = ["/usr/bin/python3", str(ROOT / "tests/bench/shipped.py"), str(program), str(ROOT / "tests/support"), str(wire.parent),
               "--seconds", str(arguments.seconds), "--flows", str(arguments.flows), *(["--no-huge"] if arguments.no_huge else [])]

    def show(row: dict) -> None:
        cost = "-" if row["cpu_ns"] is None else f"{row['cpu_ns']:.1f}"
        print(f"{row['scenario']:<18} {row['mpps']:>6.2f} million packets a second, {cost} ns of CPU time each, {row['missed']:.3%} missed"
              + (f"  VOID: {row['void']}" if row["void"] else ""), flush=True)

    _, results, status = measure(command, show)
    if arguments.json:
        document = {"machine": described["text"], "commit": machine.commit(ROOT), "load": described["load"], "results": results}
        arguments.json.write_text(as_text(document))
    return 1 if status != 0 or any(r["void"] for r in results) else 0


def failover(arguments: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        print("tools/bench: failover needs root: it makes a lab of network namespaces", file=sys.stderr)
        return 1
    from benchrun import failover as bench  # the lab is not needed for anything else
    from netlab import demo
    demo.build(arguments.build)
    print(machine.describe()["text"], flush=True)
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 30)
    kinds = arguments.kind or ["probes", "bfd", "passive"]
    try:
        results = bench.measure(kinds, max(1, arguments.runs), arguments.build, seed)
    except (RuntimeError, OSError) as error:
        print(f"tools/bench: {error}", file=sys.stderr)
        return 1
    bench.print_table(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


def main(arguments: list[str] | None = None) -> int:
    try:
        parsed = parse_arguments(arguments)
        if parsed.verb == "fastpath":
            return fastpath(parsed)
        if parsed.verb == "failover":
            return failover(parsed)
        if parsed.verb == "shipped":
            return shipped(parsed)
        rows = [(kind, count) for kind in ("tcp", "http", "https") if (count := getattr(parsed, kind)) > 0]
        return probes.run(ROOT, build(parsed.build, probes.PROGRAM), rows, parsed.seconds, parsed.json)
    except KeyboardInterrupt:
        return 130

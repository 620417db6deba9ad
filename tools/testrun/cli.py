"""The command tools/test."""
import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from testrun import build as building
from testrun.runner import Outcome, end_running, run
from testrun.skips import AllowedSkips
from testrun.suites import AT_ONCE, BUDGETS, Test, find_tests

ROOT = Path(__file__).resolve().parents[2]
SHOWN_LINES = 200  # of a failing test's output; the log has all of it
SHOWN_WIDTH = 400  # of a failed case's line at the end


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/test", description="Installs, builds and runs the tests.")
    parser.add_argument("--suite", action="append", choices=list(BUDGETS), metavar="NAME",
                        help=f"only this suite, may be repeated: {' '.join(BUDGETS)}")
    parser.add_argument("--list", action="store_true", help="list the tests, run none")
    parser.add_argument("--build", type=Path, default=ROOT / "build", metavar="DIR", help="build folder (default: build)")
    parser.add_argument("--test", action="append", metavar="NAME", help="only the test of this name, may be repeated")
    return parser.parse_args(arguments)


def collect(arguments: argparse.Namespace, build: Path) -> list[tuple[Path, Test]]:
    """The chosen tests, each with the folder that builds it."""
    wanted = arguments.suite or list(BUDGETS)
    found: list[tuple[Path, Test]] = []
    if set(wanted) != {"fuzz"}:
        building.configure(ROOT, build)
        found += [(build, test) for test in find_tests(build)]
    if "fuzz" in wanted:
        fuzz = building.configure_fuzz(ROOT)
        found += [(fuzz, test) for test in find_tests(fuzz) if test.suite == "fuzz"]
    order = list(BUDGETS)
    found = [(folder, test) for folder, test in found if test.suite in wanted]
    if arguments.test:
        found = [(folder, test) for folder, test in found if test.name in arguments.test]
    return sorted(found, key=lambda pair: order.index(pair[1].suite))


def compile_all(arguments: argparse.Namespace, tests: list[tuple[Path, Test]], build: Path) -> None:
    everything = not arguments.suite and not arguments.test
    for folder in dict.fromkeys(folder for folder, _ in tests):
        targets = [target for place, test in tests if place == folder for target in test.targets]
        building.compile_targets(folder, [] if everything and folder == build else targets)


class Report:
    def __init__(self, skips: AllowedSkips):
        self.skips = skips
        self.passed = self.failed = self.skipped = 0
        self.failures: list[str] = []
        self.cases: list[str] = []  # a line for each failed case that is known by name

    def add(self, test: Test, outcome: Outcome, log: Path) -> None:
        refused = [(name, why) for name, why in outcome.skipped if not self.skips.allows(name)]
        self.passed += outcome.passed
        self.failed += outcome.failed + len(refused)
        self.skipped += len(outcome.skipped) - len(refused)
        good = outcome.failed == 0 and not refused
        word = "ok    " if good else "FAILED"
        print(f"  {word} {test.name}: {outcome.passed} passed, {outcome.failed} failed, {len(outcome.skipped)} skipped, "
              f"{outcome.seconds:.1f} s", flush=True)
        for name, why in outcome.skipped:
            verdict = "not on the list tests/allowed_skips.txt" if (name, why) in refused else "allowed"
            print(f"    skipped {name}: {why} ({verdict})", flush=True)
        if good:
            return
        self.failures.append(f"{test.suite}/{test.name}")
        self.cases += [f"{test.suite}/{test.name}::{case}: {why}"[:SHOWN_WIDTH] for case, why in outcome.failures]
        if outcome.failed:
            self.show(outcome, log)

    @staticmethod
    def show(outcome: Outcome, log: Path) -> None:
        lines = outcome.output.splitlines()
        if len(lines) > SHOWN_LINES:
            print(f"    … {len(lines) - SHOWN_LINES} lines above are in {log}")
        print("\n".join(f"    {line}" for line in lines[-SHOWN_LINES:]))
        print(f"    {outcome.note or 'failed'}; log: {log}", flush=True)


def run_suite(suite: str, tests: list[Test], logs: Path, report: Report) -> None:
    budget = BUDGETS[suite]
    print(f"{suite} (budget {budget} s)", flush=True)
    started = time.monotonic()

    def run_one(test: Test) -> tuple[Test, Outcome, Path]:
        left = budget - (time.monotonic() - started)
        log = logs / f"{suite}-{test.name}.log".replace("/", "-")
        if left <= 0:
            return test, Outcome(failed=1, note=f"not run: the suite's budget of {budget} s is spent"), log
        return test, run(test, log, left), log

    pool = ThreadPoolExecutor(max_workers=AT_ONCE.get(suite, 1))
    try:
        for test, outcome, log in pool.map(run_one, tests):
            report.add(test, outcome, log)
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        end_running()
        raise
    pool.shutdown()
    print(f"  {suite} took {time.monotonic() - started:.1f} s", flush=True)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    build = options.build.resolve()
    setup = subprocess.run([str(ROOT / "tools" / "setup")])
    if setup.returncode != 0:
        return 1
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    try:
        tests = collect(options, build)
        if options.list:
            for _, test in tests:
                print(f"{test.suite}/{test.name}")
            return 0
        compile_all(options, tests, build)
    except building.BuildFailed as error:
        print(f"tools/test: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    logs = build / "test-log"
    logs.mkdir(parents=True, exist_ok=True)
    return run_all(options, [test for _, test in tests], logs)


def run_all(options: argparse.Namespace, tests: list[Test], logs: Path) -> int:
    report = Report(AllowedSkips(ROOT / "tests" / "allowed_skips.txt"))
    try:
        for suite in options.suite or list(BUDGETS):
            chosen = [test for test in tests if test.suite == suite]
            if chosen:
                run_suite(suite, chosen, logs, report)
            elif not options.test:
                print(f"{suite}: no test found")
                report.failed += 1
                report.failures.append(suite)
    except KeyboardInterrupt:
        print("tools/test: interrupted", file=sys.stderr)
        return 130
    if options.test and not tests:
        print(f"tools/test: no test named {', '.join(options.test)}", file=sys.stderr)
        return 2
    for case in report.cases:
        print(f"failed case: {case}")
    if report.failures:
        print(f"failed: {', '.join(report.failures)}")
    print(f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped", flush=True)
    return 1 if report.failed else 0

"""Runs one test and counts its cases.

A test never hangs the run: at its timeout its whole process group is killed, and so is what it leaves behind.
run() may be called from several threads.
"""
import os
import re
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

from testrun.suites import Test

SKIP_STATUS = 77
DOCTEST = re.compile(r"\[doctest\] test cases:\s*(\d+)\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed\s*\|\s*(\d+) skipped")
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", re.MULTILINE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


_running: set[int] = set()  # process groups


@dataclass
class Outcome:
    passed: int = 0
    failed: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)  # (suite/test or suite/test::case, the reason it said)
    seconds: float = 0.0
    output: str = ""
    note: str = ""  # why it failed, when the output does not say it
    failures: list[tuple[str, str]] = field(default_factory=list)  # (case, the first line of why), where known


def run(test: Test, log: Path, seconds_left: float) -> Outcome:
    junit = log.with_suffix(".xml")
    junit.unlink(missing_ok=True)
    limit = min(test.timeout if test.timeout > 0 else seconds_left, seconds_left)
    # pytest reads the option from its environment; other runners ignore it.
    environment = os.environ | test.environment
    environment["PYTEST_ADDOPTS"] = f"{environment.get('PYTEST_ADDOPTS', '')} -rs --junitxml={junit}".strip()
    started = time.monotonic()
    with open(log, "wb") as sink:
        status = _run_in_group(test, environment, sink, limit)
    outcome = Outcome(seconds=time.monotonic() - started)
    outcome.output = COLOUR.sub("", log.read_text(errors="replace"))
    _count(test, status, junit, outcome)
    if status is None:
        over_budget = limit < test.timeout
        outcome.note = f"killed after {limit:.0f} s ({'the budget of the suite' if over_budget else 'its timeout'})"
        outcome.failed = max(outcome.failed, 1)
    elif status not in (0, SKIP_STATUS) and outcome.failed == 0:
        outcome.failed = 1
        outcome.note = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    return outcome


def _run_in_group(test: Test, environment: dict[str, str], sink, limit: float) -> int | None:
    """The exit status, or None when it was killed."""
    try:
        process = subprocess.Popen(test.command, cwd=test.folder, env=environment, stdin=subprocess.DEVNULL, stdout=sink,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    except OSError as error:
        sink.write(f"{test.command[0]}: {error.strerror}\n".encode())
        return 127
    _running.add(process.pid)
    try:
        return process.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        # A chance to take down namespaces and links, then the end.
        _signal_group(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            pass
        return None
    finally:
        _running.discard(process.pid)
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def end_running(patience: float = 10) -> None:
    """Ends the tests that run, so that they take down their namespaces; returns when they are gone or time is up."""
    for group in list(_running):
        _signal_group(group, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while _running and time.monotonic() < deadline:
        time.sleep(0.01)
    for group in list(_running):
        _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def _count(test: Test, status: int | None, junit: Path, outcome: Outcome) -> None:
    label = f"{test.suite}/{test.name}"
    doctest = DOCTEST.findall(outcome.output)
    summary = SUMMARY.findall(outcome.output)
    if junit.exists() and _count_junit(label, junit, outcome):
        return
    if doctest:
        _, passed, failed, skipped = map(int, doctest[-1])
        outcome.passed, outcome.failed = passed, failed
        outcome.skipped += [(label, "left out in the source")] * skipped
    elif summary:
        passed, failed, skipped = map(int, summary[-1])
        outcome.passed, outcome.failed = passed, failed
        outcome.skipped += [(label, "see its log")] * skipped
    elif status == SKIP_STATUS:
        said = [line for line in outcome.output.splitlines() if line.strip()]
        outcome.skipped.append((label, said[-1] if said else "no reason given"))
    elif status == 0:
        outcome.passed = 1


def _count_junit(label: str, junit: Path, outcome: Outcome) -> bool:
    """False when the file holds no result, as after a kill."""
    try:
        cases = list(ElementTree.parse(junit).getroot().iter("testcase"))
    except ElementTree.ParseError:
        return False
    for case in cases:
        skip = case.find("skipped")
        bad = [found for kind in ("failure", "error") if (found := case.find(kind)) is not None]
        if bad:
            outcome.failed += 1
            why = (bad[0].get("message") or bad[0].text or "").strip().splitlines()
            outcome.failures.append((case.get("name") or "", why[0] if why else "no reason given"))
        elif skip is not None:
            outcome.skipped.append((f"{label}::{case.get('name')}", skip.get("message") or "no reason given"))
        else:
            outcome.passed += 1
    return bool(cases)

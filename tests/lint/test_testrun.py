"""tools/test counts single cases, refuses skips that are not listed, and never hangs."""
import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from testrun.cli import Report, run_all, run_suite  # noqa: E402
from testrun.runner import Outcome, run  # noqa: E402
from testrun.skips import AllowedSkips  # noqa: E402
from testrun.suites import Test  # noqa: E402


def run_python(tmp_path: Path, code: str, timeout: float = 30) -> Outcome:
    return run(Test("unit", "t", [sys.executable, "-c", code], None, timeout), tmp_path / "t.log", 60)


DOCTEST = "print('[doctest] test cases:  5 |  {} passed | {} failed | {} skipped')"


@pytest.mark.parametrize("code, passed, failed, skipped", [
    ("pass", 1, 0, 0),
    ("raise SystemExit(3)", 0, 1, 0),
    (DOCTEST.format(5, 0, 0), 5, 0, 0),
    (DOCTEST.format(3, 2, 0) + "; raise SystemExit(1)", 3, 2, 0),
    (DOCTEST.format(4, 0, 1), 4, 0, 1),
    (DOCTEST.format(5, 0, 0) + "; raise SystemExit(1)", 5, 1, 0),
    ("print('7 passed, 0 failed, 0 skipped')", 7, 0, 0),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 0, 1, 0),
    ("print('no huge pages'); raise SystemExit(77)", 0, 0, 1),
])
def test_cases_are_counted(tmp_path, code, passed, failed, skipped):
    outcome = run_python(tmp_path, code)
    assert (outcome.passed, outcome.failed, len(outcome.skipped)) == (passed, failed, skipped)


def test_the_cases_of_pytest_are_counted_by_name(tmp_path):
    (tmp_path / "test_x.py").write_text(
        "import pytest\ndef test_a(): pass\ndef test_b(): assert 0\ndef test_c(): pytest.skip('no etcd')\n")
    test = Test("e2e", "x", ["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)], str(tmp_path), 60)
    outcome = run(test, tmp_path / "x.log", 60)
    assert (outcome.passed, outcome.failed) == (1, 1)
    assert outcome.skipped == [("e2e/x::test_c", "no etcd")]


def test_a_hanging_test_is_killed_with_its_children(tmp_path):
    code = ("import subprocess, time\nchild = subprocess.Popen(['sleep', '600'])\n"
            f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\ntime.sleep(600)\n")
    started = time.monotonic()
    outcome = run_python(tmp_path, code, timeout=2)
    assert time.monotonic() - started < 30
    assert outcome.failed == 1 and "killed after 2 s" in outcome.note
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while alive(child):
        assert time.monotonic() < deadline, "the child outlived its test"


def alive(pid: int) -> bool:
    """A zombie that nobody has collected yet is dead."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_what_a_test_leaves_running_is_killed(tmp_path):
    code = f"import subprocess; open({str(tmp_path / 'pid')!r}, 'w').write(str(subprocess.Popen(['sleep', '600']).pid))"
    assert run_python(tmp_path, code).passed == 1
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while alive(child):
        assert time.monotonic() < deadline, "the child outlived its test"


def test_only_listed_skips_are_allowed(tmp_path):
    (tmp_path / "list").write_text("# comment\nbpf/x::test_native*  # no native XDP on this driver\n")
    report = Report(AllowedSkips(tmp_path / "list"))
    test = Test("bpf", "x", [], None, 1)
    report.add(test, Outcome(passed=2, skipped=[("bpf/x::test_native_v4", "no")]), tmp_path / "log")
    assert (report.passed, report.failed, report.skipped) == (2, 0, 1)
    report.add(test, Outcome(skipped=[("bpf/x::test_other", "no")]), tmp_path / "log")
    assert (report.passed, report.failed, report.skipped) == (2, 1, 1)


def test_a_listed_skip_needs_its_reason(tmp_path):
    (tmp_path / "list").write_text("bpf/x\n")
    with pytest.raises(SystemExit, match="list:1: a line needs its reason"):
        AllowedSkips(tmp_path / "list")


def test_a_suite_without_a_test_fails_the_run(tmp_path, capsys):
    class Options:
        suite, test = ["unit"], None
    assert run_all(Options(), [], tmp_path) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"
    test = Test("unit", "area/t", [sys.executable, "-c", "pass"], None, 30)
    assert run_all(Options(), [test], tmp_path) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed, 0 skipped"


def test_the_failed_cases_stand_at_the_end_by_name_with_their_reason(tmp_path, capsys):
    case = tmp_path / "test_it.py"
    case.write_text("def test_good():\n    pass\n\n\ndef test_bad():\n    assert 1 == 2, 'the cause'\n")
    test = Test("e2e", "some", [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(case)], None, 60)

    class Options:
        suite, test = ["e2e"], None
    assert run_all(Options(), [test], tmp_path) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "failed case: e2e/some::test_bad: AssertionError: the cause", "failed: e2e/some", "1 passed, 1 failed, 0 skipped"]


def test_fuzz_targets_run_two_at_a_time_and_others_alone(tmp_path, capsys):
    meeting = f"import os, sys, time; open(sys.argv[1], 'w'); end = time.monotonic() + 10\n" \
              f"while not os.path.exists(sys.argv[2]): time.sleep(0.01); assert time.monotonic() < end"
    one, two = str(tmp_path / "one"), str(tmp_path / "two")

    def results(suite, patience):
        code = meeting.replace("+ 10", f"+ {patience}")
        run_suite(suite, [Test(suite, "a", [sys.executable, "-c", code, one, two], None, 30),
                          Test(suite, "b", [sys.executable, "-c", code, two, one], None, 30)], tmp_path, report)
        return report.passed, report.failed

    (tmp_path / "skips").touch()
    report = Report(AllowedSkips(tmp_path / "skips"))
    assert results("fuzz", 10) == (2, 0)
    (tmp_path / "one").unlink()
    (tmp_path / "two").unlink()
    assert results("e2e", 0.2) == (3, 1)

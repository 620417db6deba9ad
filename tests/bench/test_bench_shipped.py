"""The outside check runs the shipped program, and says so when its packets do not end as they should."""
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def rows(*arguments: str) -> list[dict]:
    done = subprocess.run([sys.executable, str(ROOT / "tests/bench/shipped.py"), os.environ["DETOUR_DATAPLANE"], str(ROOT / "tests/support"),
                           os.environ["PYTHONPATH"].split(os.pathsep)[0], "--no-huge", *arguments], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_packet_is_forwarded_by_its_flows_entry_and_sent_and_no_interface_is_left():
    before = sorted(os.listdir("/sys/class/net"))
    found = rows("--seconds", "1")
    assert [r["scenario"] for r in found] == ["v4-tcp-shipped", "v6-tcp-shipped"]
    for r in found:
        assert r["void"] is None and r["packets"] > 10_000, r
        # A reading is of the worker first and of the ports some time after, on a busy machine milliseconds: thousands of packets.
        assert abs(r["sent"] - r["packets"]) <= 1000 + r["packets"] // 20, r
        assert r["cpu_ns"] > 5 and r["mpps"] > 0, r
    assert sorted(os.listdir("/sys/class/net")) == before

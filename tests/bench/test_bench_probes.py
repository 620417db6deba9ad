"""The benchmark of probes measures what it says: every probe is answered, and none leaves a socket behind."""
import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_small_run_answers_every_probe_and_leaves_no_time_wait(tmp_path):
    path = tmp_path / "result.json"
    done = subprocess.run([str(ROOT / "tools/bench"), "probes", "--tcp", "300", "--http", "100", "--https", "20",
                           "--seconds", "3", "--json", str(path)], capture_output=True, text=True, timeout=55)
    # Not its exit status: on a busy machine a small run may miss the target.
    assert path.exists(), done.stdout + done.stderr
    document = json.loads(path.read_text())
    assert document["machine"] and document["commit"]
    assert [r["type"] for r in document["results"]] == ["tcp", "http", "https"]
    for r in document["results"]:
        assert r["probes"] >= 0.9 * r["backends"] * r["seconds"], r
        assert r["ok"] >= 0.9 * r["probes"], r
        assert r["time_wait"] == 0, r
        assert 0 < r["cores"] < 2 and r["cpu_us_per_probe"] > 1, r

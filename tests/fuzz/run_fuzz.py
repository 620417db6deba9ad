"""Runs one fuzz target: first over its seeds, then on new inputs for FUZZ_SECONDS (default 60).

What crashes it is kept in the working folder as crash-…, leak-…, timeout-… beside the log, and the command to see it
again is printed. The seeds are never written to.
"""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

target, seeds = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
seconds = int(os.environ.get("FUZZ_SECONDS", "60"))
findings = target.parent / "findings" / target.name
findings.mkdir(parents=True, exist_ok=True)

if not any(seeds.glob("*")):
    sys.exit(f"{seeds}: no seeds; a target needs at least one input that it accepts")

with tempfile.TemporaryDirectory() as grown:
    command = [str(target), f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=4096", "-max_len=65536",
               "-print_final_stats=1", f"-artifact_prefix={findings}/", grown, str(seeds)]
    status = subprocess.run(command).returncode
if status != 0:
    print(f"a finding in {findings}; see it again with: {target} FILE; when mended, add it to {seeds}")
sys.exit(1 if status != 0 else 0)

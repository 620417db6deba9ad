"""Shared by the end-to-end tests: the lab's Python API on the path, and names that no other run uses."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tools"))

if os.geteuid() != 0:
    pytest.exit("end-to-end tests need root: they make network namespaces", returncode=1)


def lab_name(purpose: str) -> str:
    """A lab name of this run: small letters and digits, the process id makes it its own."""
    return f"{purpose}{os.getpid()}"


def leftovers(name: str) -> list[str]:
    """What still exists of a lab: namespaces, processes in them, files, links in the host's own namespace."""
    found = [n for n in os.listdir("/run/netns") if n.startswith(f"dt-{name}-")] if os.path.isdir("/run/netns") else []
    found += [str(p) for p in Path("/run/detour-lab").glob(f"{name}*")]
    for entry in os.listdir("/proc"):
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes() if entry.isdigit() else b""
        except OSError:
            continue
        if f"/run/detour-lab/{name}/".encode() in words:
            found.append(f"process {entry}: {words[:80]!r}")
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    found += [line for line in links.splitlines() if f"dt-{name}-" in line]
    return found

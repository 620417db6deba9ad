"""What a result needs said about the machine and the tree that it was measured with."""
import os
import re
import subprocess
from pathlib import Path


def _first(pattern: str, text: str, fallback: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else fallback


def _cache() -> str:
    try:
        return Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().strip()
    except OSError:
        return "unknown"


def describe() -> dict:
    """`text` for people; `load` is the machine's load average of the last minute before the run."""
    cpus = Path("/proc/cpuinfo").read_text()
    model = _first(r"^model name\s*:\s*(.+)$", cpus, "unknown CPU")
    clock = _first(r"^cpu MHz\s*:\s*([\d.]+)$", cpus, "unknown")
    load = os.getloadavg()[0]
    kernel = os.uname().release.split("-")[0]
    count = os.cpu_count() or 1
    busy = ", LOADED: other work ran beside" if load > 0.5 else ""
    text = (f"{model}, {clock} MHz, {count} CPUs, L3 {_cache()}, Linux {kernel}, "
            f"nice {os.nice(0)}, load {load:.1f}{busy}")
    return {"text": text, "load": round(load, 2)}


def commit(root: Path) -> str:
    """The commit of the tree, `+` when files that git knows differ from it."""
    try:
        name = subprocess.run(["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run(["git", "-C", str(root), "status", "--porcelain", "-uno"], capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    if name.returncode != 0:
        return "unknown"
    return name.stdout.strip() + ("+" if changed.stdout.strip() else "")

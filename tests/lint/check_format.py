"""clang-format's opinion of every C and C++ file."""
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

from sources import Finding, Tree

WARNING = re.compile(r"^(.*?):(\d+):\d+: (?:error|warning): code should be clang-formatted")


def check_file(tree: Tree, path: str) -> list[Finding]:
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", path], cwd=tree.root, capture_output=True, text=True)
    lines = [int(m[2]) for m in map(WARNING.match, done.stderr.splitlines()) if m]
    if lines:
        return [Finding(path, lines[0], f"not as clang-format writes it ({len(lines)} places): clang-format -i {path}")]
    if done.returncode != 0:
        return [Finding(path, 1, f"clang-format failed: {done.stderr.strip()[:500]}")]
    return []


def check(tree: Tree) -> list[Finding]:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return [finding for found in pool.map(lambda path: check_file(tree, path), tree.cpp()) for finding in found]

"""Every header compiles alone, with the flags of a source file near it.

A header that some source file of the build includes first, before anything else, is shown to by the build itself. The
others are compiled here. One that passed is not compiled again until it, or anything it includes, has changed: the build
folder keeps a record.
"""
import hashlib
import json
import os
import re
import shlex
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sources import Finding, Tree

FIRST_INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)
DROPPED_WITH_VALUE = {"-o", "-c", "-MF", "-MQ", "-MT"}
DROPPED = {"-MD", "-MMD", "-fdiagnostics-color=always", "-g", "-O2"}


class Flags:
    """Flags by source file, from meson's compile_commands.json."""

    def __init__(self, tree: Tree, build: Path):
        self.by_source: dict[str, list[str]] = {}
        self.folders: list[str] = []
        for entry in json.loads((build / "compile_commands.json").read_text()):
            source = os.path.relpath(Path(entry["directory"], entry["file"]).resolve(), tree.root)
            words = shlex.split(entry["command"])
            start = next(i for i, word in enumerate(words) if word.startswith("-"))
            self.by_source[source] = self._kept(words[start:])
            shared = (f for f in self.by_source[source] if f.startswith(("-I", "-isystem/")))
            self.folders += [f for f in shared if f not in self.folders]

    @staticmethod
    def _kept(words: list[str]) -> list[str]:
        kept, skip = [], False
        for word in words:
            if skip or word in DROPPED:
                skip = False
            elif word in DROPPED_WITH_VALUE:
                skip = True
            else:
                kept.append(word)
        return kept

    def near(self, header: str) -> list[str]:
        """Those of the C++ source that shares most of the header's path, its twin first."""
        sources = [s for s in self.by_source if s.endswith(".cpp")]
        stem = header.removesuffix(".h")
        best = max(sources, key=lambda s: (s == stem + ".cpp", len(os.path.commonprefix([s, header]))))
        return self.by_source[best] + self.folders


def shown_by_build(tree: Tree, flags: Flags) -> set[str]:
    """Headers that a compiled source file includes before anything else."""
    first = (FIRST_INCLUDE.search(tree.read(source)) for source in flags.by_source if source in tree.files)
    return {match[1] for match in first if match}


def is_bpf(tree: Tree, header: str) -> bool:
    """Included by BPF programs alone: not for a C++ compiler."""
    users = [f for f in tree.cpp() if f'#include "{header}"' in tree.read(f)]
    return bool(users) and all(user.endswith(".bpf.c") or is_bpf(tree, user) for user in users if user != header)


class Record:
    """What passed before: a digest of the command, and the time and size of each file that took part."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.entries = json.loads(path.read_text())
        except (OSError, ValueError):
            self.entries = {}

    @staticmethod
    def _state(files: list[str]) -> list:
        return [[f, os.stat(f).st_mtime_ns, os.stat(f).st_size] for f in files]

    def knows(self, header: str, digest: str) -> bool:
        entry = self.entries.get(header)
        try:
            return entry is not None and entry["digest"] == digest and entry["files"] == self._state([f[0] for f in entry["files"]])
        except OSError:
            return False

    def add(self, header: str, digest: str, files: list[str]) -> None:
        self.entries[header] = {"digest": digest, "files": self._state(files)}
        if len(self.entries) % 8 == 0:  # a run that is killed keeps most of what it learned
            self.save()

    def save(self) -> None:
        beside = self.path.with_suffix(f".{threading.get_ident()}")
        beside.write_text(json.dumps(dict(self.entries)))
        beside.replace(self.path)


def dependencies(text: str, build: Path) -> list[str]:
    """The files of a make rule as -MD writes it."""
    words = text.replace("\\\n", " ").split()[1:]
    return [str((build / word).resolve()) for word in words if word != "-"]


def check_header(tree: Tree, build: Path, flags: Flags, record: Record, header: str) -> list[Finding]:
    if is_bpf(tree, header):
        command = ["clang-16", "--target=bpf", "-O2", "-Wall", "-Werror", f"-I{tree.root}", "-I/usr/include/x86_64-linux-gnu",
                   "-fsyntax-only", "-x", "c", "-"]
    else:
        command = ["g++", *flags.near(header), "-fsyntax-only", "-x", "c++", "-"]
    digest = hashlib.sha256(" ".join(command).encode()).hexdigest()
    if record.knows(header, digest):
        return []
    rule = build / "lint" / (header.replace("/", "_") + ".d")
    text = f'#include "{header}"\n'
    done = subprocess.run([*command, "-MD", "-MF", str(rule)], input=text, cwd=build, capture_output=True, text=True)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if "error:" in line]
        return [Finding(header, 1, f"does not compile alone: {(said or done.stderr.splitlines() or ['?'])[0]}")]
    record.add(header, digest, dependencies(rule.read_text(), build) if rule.exists() else [str(tree.root / header)])
    return []


def check(tree: Tree, build: Path) -> list[Finding]:
    (build / "lint").mkdir(exist_ok=True)
    flags, record = Flags(tree, build), Record(build / "lint" / "headers.json")
    shown = shown_by_build(tree, flags)
    headers = [header for header in tree.with_suffix(".h") if header not in shown]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        try:
            found = list(pool.map(lambda header: check_header(tree, build, flags, record, header), headers))
        finally:
            record.save()
    return [finding for findings in found for finding in findings]

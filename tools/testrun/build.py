"""Configuring and building, with progress that suits a terminal and a log."""
import os
import subprocess
import sys
import time
from pathlib import Path

from testrun.suites import FUZZ_FOLDER

PROGRESS_EVERY = 10.0  # seconds between progress lines where there is no terminal


class BuildFailed(Exception):
    """The text is for the operator; the tools' own output was shown before."""


def configure(root: Path, build: Path) -> None:
    _configure(root, build, [], {})


def configure_fuzz(root: Path) -> Path:
    build = root / FUZZ_FOLDER
    options = ["-Dfuzz=true", "-Db_sanitize=address,undefined", "-Db_lundef=false", "-Dwerror=false",
               "-Dcpp_args=-fsanitize=fuzzer-no-link -fno-sanitize-recover=undefined"]
    _configure(root, build, options, {"CC": "clang-16", "CXX": "clang++-16"})
    return build


def _configure(root: Path, build: Path, options: list[str], environment: dict[str, str]) -> None:
    """A folder that exists is brought up to date with the meson.build files, or its list of tests would be old."""
    if (build / "build.ninja").exists():
        command = ["ninja", "-C", str(build), "build.ninja"]
    else:
        print(f"tools/test: configuring {build.name}", flush=True)
        command = ["meson", "setup", *options, str(build)]
    done = subprocess.run(command, cwd=root, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stdout[-6000:], done.stderr[-2000:], sep="\n", flush=True)
        raise BuildFailed(f"configuring {build.name} failed")


def compile_targets(build: Path, targets: list[str]) -> None:
    """Builds the targets named, or the default ones when there are none. Paths may be absolute."""
    names = sorted({os.path.relpath(target, build) for target in targets})
    command = ["ninja", "-C", str(build), "-j", str(len(os.sched_getaffinity(0))), *names]
    print(f"tools/test: building {build.name}", flush=True)
    if sys.stdout.isatty():
        status = subprocess.run(command).returncode
    else:
        status = _run_quietly(command)
    if status != 0:
        raise BuildFailed(f"building {build.name} failed")


def _run_quietly(command: list[str]) -> int:
    """Without a terminal: a progress line now and then, and everything that is no progress."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    last = time.monotonic()
    for line in process.stdout:
        if not line.startswith("["):
            print(line, end="", flush=True)
        elif time.monotonic() - last > PROGRESS_EVERY:
            print(line, end="", flush=True)
            last = time.monotonic()
    return process.wait()

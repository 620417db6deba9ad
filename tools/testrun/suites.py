"""The suites, their time budgets, and how the tests of each are found in meson's build folder."""
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

# Seconds that all tests of a suite may take together, on the two-core development machine under load.
BUDGETS = {"unit": 180, "simulation": 700, "packet": 180, "bpf": 300, "e2e": 1800, "vm": 480, "faults": 600, "stress": 400,
           "fuzz": 900, "lint": 300}
# How many tests of a suite run at the same time; 1 where it does not say. A fuzz target uses one CPU and no lab.
AT_ONCE = {"fuzz": 2}
# The fuzz targets are built by clang with sanitizers, in a folder of their own.
FUZZ_FOLDER = "build-fuzz"


@dataclass
class Test:
    __test__ = False  # to pytest: no test case
    suite: str
    name: str
    command: list[str]
    folder: str | None
    timeout: float
    environment: dict[str, str] = field(default_factory=dict)
    targets: list[str] = field(default_factory=list)


def introspect(build: Path, what: str):
    output = subprocess.run(["meson", "introspect", str(build), f"--{what}"], capture_output=True, text=True, check=True)
    return json.loads(output.stdout)


def find_tests(build: Path) -> list[Test]:
    """All tests that meson knows in `build`, in the order of the suites."""
    files = {target["id"]: target["filename"] for target in introspect(build, "targets")}
    found = []
    for test in introspect(build, "tests"):
        suites = [s.split(":")[-1] for s in test["suite"]]
        suite = next((s for s in suites if s in BUDGETS), None)
        if suite is None:
            raise SystemExit(f"tools/test: test {test['name']} is in no suite of {', '.join(BUDGETS)}")
        targets = [path for target in test["depends"] for path in files.get(target, [])]
        # meson runs tests in the build folder, and names programs from there.
        folder = test["workdir"] or str(build)
        found.append(Test(suite, test["name"], test["cmd"], folder, float(test["timeout"]), test["env"],
                          targets))
    order = list(BUDGETS)
    return sorted(found, key=lambda t: order.index(t.suite))

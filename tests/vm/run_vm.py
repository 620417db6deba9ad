#!/usr/bin/python3
"""The suite `vm`: boots the machine, passes on what it reports, plugs and pulls cables when it asks.

    run_vm.py BUILD

Prints `N passed, N failed, N skipped`. Needs KVM nowhere; about as long as two cores need to emulate two.
"""
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from cable import Cable
from machine import KERNEL_FOLDER, Machine, VmError

HERE = Path(__file__).resolve().parent
CABLE = re.compile(r"^vm: (\w+) (on|off)$")
# The NIC under test and the router's end of its cable, on a hub of their own.
DEVICES = [
    "-netdev", "hubport,id=hub0a,hubid=0", "-device", "e1000e,id=e1000e,netdev=hub0a,mac=52:54:00:00:00:01,addr=05",
    "-netdev", "hubport,id=hub0b,hubid=0", "-device", "virtio-net-pci,netdev=hub0b,mac=52:54:00:00:00:02,addr=06",
    "-netdev", "hubport,id=hub1a,hubid=1",
    "-device", "virtio-net-pci,id=virtio,netdev=hub1a,mac=52:54:00:00:01:01,disable-legacy=on,iommu_platform=on,addr=07",
    "-netdev", "hubport,id=hub1b,hubid=1", "-device", "virtio-net-pci,netdev=hub1b,mac=52:54:00:00:01:02,addr=08",
]


def two_queues() -> list[str]:
    """The same with two queues, which the NIC's own hash chooses from."""
    tap = "tap,script=no,downscript=no,vhost=off"
    return ["-netdev", f"{tap},id=hub2a,ifname={Cable.NIC},queues=2",
            "-device", "virtio-net-pci,id=virtio2,netdev=hub2a,mac=52:54:00:00:02:01,disable-legacy=on,iommu_platform=on,"
            "mq=on,vectors=6,rss=on,addr=09",
            "-netdev", f"{tap},id=hub2b,ifname={Cable.OTHER}",
            "-device", "virtio-net-pci,netdev=hub2b,mac=52:54:00:00:02:02,addr=0a"]


class Report:
    def __init__(self, machine: Machine):
        self.machine = machine
        self.begun = time.monotonic()
        self.passed = self.failed = 0

    def take(self, line: str) -> None:
        print(f"{time.monotonic() - self.begun:6.1f} {line}", flush=True)
        self.passed += line.startswith("ok ")
        self.failed += line.startswith("FAILED ")
        if wish := CABLE.match(line):
            self.machine.set_link(wish[1], wish[2])


def show_logs(folder: Path) -> None:
    for log in sorted(folder.glob("*.log")):
        print(f"---- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-40:]))


def main(build: str) -> int:
    folder = Path(tempfile.mkdtemp(prefix="detour-vm-"))
    command = f"/usr/bin/python3 {HERE}/guest_main.py {build} {KERNEL_FOLDER}"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    machine = cable = None
    try:
        cable = Cable()
        machine = Machine(folder, command, DEVICES + two_queues(), cable.command)
        report = Report(machine)
        machine.follow(report.take)
        status = machine.status()
        if status != 0 or report.failed or not report.passed:
            show_logs(machine.out)
            report.failed = max(report.failed, 1)
        print(f"{report.passed} passed, {report.failed} failed, 0 skipped")
        return 1 if report.failed else 0
    except VmError as error:
        if machine:
            show_logs(machine.out)
        print(f"run_vm: {error}\n0 passed, 1 failed, 0 skipped")
        return 1
    finally:
        if machine:
            machine.close()
        if cable:
            cable.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

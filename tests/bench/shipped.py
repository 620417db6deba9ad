"""The outside check of the fast-path benchmark: the program that is shipped, between net_pcap (which receives the
same frames without end) and net_null (which sends into nothing), judged by its own statistics.

    shipped.py PROGRAM SUPPORT WIRE [--seconds S] [--flows N] [--no-huge]

SUPPORT is tests/support, WIRE the folder of dataplane_pb2. One JSON object a line, one for each IP family.
"""
import argparse
import ipaddress
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VIP = {4: "203.0.113.10", 6: "2001:db8:f::10"}
PORT = 443
TCP = 6
ROUTER, OURS, NEXT_HOP = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"
FORWARDED_PINNED = 0  # dataplane/api/counters.h
MOST_MISSED = 0.001
WARM_SECONDS = 1.0
READY_SECONDS = 60.0


def ones_complement(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ip_header(family: int, number: random.Random) -> bytes:
    vip = ipaddress.ip_address(VIP[family]).packed
    if family == 6:
        client = ipaddress.ip_address("2001:db8:c::").packed[:8] + number.randbytes(8)
        return struct.pack(">IHBB", 6 << 28, 20, TCP, 64) + client + vip
    client = bytes([10, number.randrange(1, 120), number.randrange(256), number.randrange(1, 255)])
    head = struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0x4000, 64, TCP, 0) + client + vip
    return head[:10] + struct.pack(">H", ones_complement(head)) + head[12:]


def write_frames(path: Path, family: int, flows: int) -> None:
    """A bare ACK of each of so many random flows, in pcap's classic format."""
    number = random.Random(1)
    ethernet = bytes.fromhex((OURS + ROUTER).replace(":", "")) + (b"\x08\x00" if family == 4 else b"\x86\xdd")
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for _ in range(flows):
            tcp = struct.pack(">HHIIBBHHH", number.randrange(1024, 65536), PORT, 1000, 1, 0x50, 0x10, 0, 0, 0)
            frame = (ethernet + ip_header(family, number) + tcp).ljust(60, b"\0")
            file.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)


class Shipped:
    """The program, running; stopped at the end of `with`."""

    def __init__(self, program: str, folder: Path, frames: Path, huge: bool):
        self.socket = str(folder / "dataplane.sock")
        self._log = (folder / "dataplane.log").open("wb")
        # In a network namespace that ends with it: the exception ports that it makes outlive it otherwise.
        apart = ["unshare", "--net"] if os.geteuid() == 0 else []
        command = [*apart, program, "--socket", self.socket, "--state-dir", str(folder / "state"), "--idle-sleep", "0",
                   "--port", f"net_pcap0,rx_pcap={frames},infinite_rx=1", "--port", "net_null0,no-rx=1"]
        self._process = subprocess.Popen(command + ([] if huge else ["--no-huge"]), stdout=subprocess.PIPE, stderr=self._log, text=True)

    def __enter__(self):
        if not self._process.stdout.readline().startswith("ready"):
            self._process.wait(READY_SECONDS)
            raise RuntimeError("detour-dataplane did not start: " + Path(self._log.name).read_text(errors="replace")[-2000:])
        return self

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(READY_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def plan(fast_path, family: int):
    sites = 4
    built = fast_path.PlanBuilder(OURS, NEXT_HOP)
    for site in range(sites):
        built.site(f"site{site}")
    backends = [[f"10.1.{site}.{b + 1}" if family == 4 else f"2001:db8:b:{site}::{b + 1}" for b in range(4)] for site in range(sites)]
    built.pool("pool", [(VIP[family], PORT, TCP)], backends)
    built.plan.next_hops[0].port = 1
    return built.generation(1)


def reading(shipped: Shipped, control) -> dict:
    stats = control.stats()
    by_reason = {row.reason: row.value for row in stats.workers[0].counters}
    return {"ns": stats.now_ns, "cpu": shipped.cpu_seconds(), "packets": sum(by_reason.values()),
            "pinned": by_reason.get(FORWARDED_PINNED, 0), "received": stats.ports[0].rx_packets, "sent": stats.ports[1].tx_packets}


def measure(arguments: argparse.Namespace, fast_path, family: int) -> dict:
    with tempfile.TemporaryDirectory(prefix="detour-shipped.") as name:
        folder = Path(name)
        write_frames(folder / "frames.pcap", family, arguments.flows)
        with Shipped(arguments.program, folder, folder / "frames.pcap", not arguments.no_huge) as shipped:
            control = fast_path.Control(shipped.socket)
            control.apply(plan(fast_path, family))
            time.sleep(WARM_SECONDS)  # each flow is seen twice and more
            before = reading(shipped, control)
            time.sleep(arguments.seconds)
            after = reading(shipped, control)
            control.close()
    of = {key: after[key] - before[key] for key in before}
    packets = of["packets"]
    missed = 1 - of["pinned"] / packets if packets else 1.0
    return {"scenario": f"v{family}-tcp-shipped", "flows": arguments.flows, "seconds": of["ns"] / 1e9, "packets": packets,
            "mpps": packets / of["ns"] * 1e3 if packets else 0.0, "cpu_ns": of["cpu"] / packets * 1e9 if packets else None,
            "sent": of["sent"], "missed": missed, "void": "packets were not forwarded by their flow's entry" if missed > MOST_MISSED else None}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("support")
    parser.add_argument("wire")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--flows", type=int, default=1000)
    parser.add_argument("--no-huge", action="store_true")
    arguments = parser.parse_args()
    sys.path[:0] = [arguments.support, arguments.wire]
    import fast_path
    for family in (4, 6):
        print(json.dumps(measure(arguments, fast_path, family)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

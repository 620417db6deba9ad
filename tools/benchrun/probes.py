"""What probing costs: bench_probes on one CPU, and nginx as all backends behind a veth pair on the others.

Each end's packets are received on its own CPUs (RPS), so the first CPU does what a host of a PoP does and no more:
our process and the kernel's work for our end of each connection. On loopback connect() would carry out the server's
half too, and the scheduler would put both processes on one CPU.
"""
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchrun import machine

PROGRAM = "tests/bench/bench_probes"
PORTS = {"tcp": 18080, "http": 18080, "https": 18443}
TARGET_CORES = 0.5  # of 10,000 TCP probes a second
OURS, PEER = "192.0.2.1", "192.0.2.2"
BACKENDS = "198.18.0.0/16"  # where bench_probes has its backends (RFC 2544: addresses for benchmarks)
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
OURS, PEER = "192.0.2.1", "192.0.2.2"
BACKENDS = "198.18.0.0/16"  # bench_probes gives its backends addresses there
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000

NGINX = """daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log error;
events {{ worker_connections 20000; }}
http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 18080 backlog=8192; listen 18443 ssl backlog=8192; ssl_certificate {folder}/certificate.pem;
    ssl_certificate_key {folder}/key.pem; location / {{ return 200 "ok"; }} }} }}
"""


def _start_nginx(folder: Path) -> subprocess.Popen:
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem"), "-days", "2", "-subj",
                    "/CN=bench.example"], check=True, capture_output=True)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
    return subprocess.Popen(["/usr/sbin/nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c",
                             str(folder / "nginx.conf")], preexec_fn=lambda: _unshare(CLONE_NEWNET))


def _connect(peer: int, ours: set[int], theirs: set[int]) -> None:
    """A veth pair between this network namespace and that of process `peer`, which has all addresses of BACKENDS."""
    def run(command: str, inside: bool = False) -> None:
        subprocess.run((["nsenter", "-t", str(peer), "-n"] if inside else []) + command.split(), check=True)

    run(f"ip link add probe0 type veth peer name probe1 netns {peer}")
    run("ip link set probe0 up")
    run(f"ip addr add {OURS}/30 dev probe0")
    run("ip link set lo up", inside=True)
    run("ip link set probe1 up", inside=True)
    run(f"ip addr add {PEER}/30 dev probe1", inside=True)
    run(f"ip route add local {BACKENDS} dev lo", inside=True)
    run(f"ip route add {BACKENDS} via {PEER}")
    rps = "/sys/class/net/{}/queues/rx-0/rps_cpus"
    Path(rps.format("probe0")).write_text(_mask(ours))
    # /sys shows the network namespace in which it was mounted.
    subprocess.run(["nsenter", "-t", str(peer), "-n", "unshare", "-m", "sh", "-c",
                    f"mount -t sysfs sysfs /sys && echo {_mask(theirs)} > {rps.format('probe1')}"], check=True)


def _mask(cpus: set[int]) -> str:
    return f"{sum(1 << cpu for cpu in cpus):x}"


def _split_cpus() -> tuple[set[int], set[int]]:
    """One CPU for us, the others for the peer; the same for both where there is but one."""
    cpus = os.sched_getaffinity(0)
    ours = {min(cpus)}
    return ours, (cpus - ours) or ours


def _time_wait() -> int:
    """Sockets of this network namespace that wait out their time."""
    line = next(row for row in Path("/proc/net/sockstat").read_text().splitlines() if row.startswith("TCP:"))
    words = line.split()
    return int(words[words.index("tw") + 1])


def _measure(program: Path, scenarios: list[tuple[str, int]], seconds: int, show) -> list[dict]:
    """Runs in the namespace."""
    results = []
    ours, theirs = _split_cpus()
    with tempfile.TemporaryDirectory(prefix="detour-bench-") as name:
        os.sched_setaffinity(0, theirs)
        nginx = _start_nginx(Path(name))
        try:
            deadline = time.monotonic() + 10
            while not (Path(name) / "pid").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            _connect(nginx.pid, ours, theirs)
            for kind, backends in scenarios:
                done = subprocess.run([str(program), kind, str(backends), str(PORTS[kind]), str(seconds)],
                                      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                      preexec_fn=lambda: os.sched_setaffinity(0, ours))
                if done.returncode != 0:
                    sys.exit(f"tools/bench: {program} ended with status {done.returncode}")
                results.append(json.loads(done.stdout) | {"time_wait": _time_wait()})
                show(results[-1])
        finally:
            nginx.terminate()
            nginx.wait()
    return results


def line(result: dict) -> str:
    return (f"{result['type']:<6} {result['backends']:>8} {result['probes_per_second']:>9.0f} {result['cores']:>7.3f} "
            f"{result['process_cores']:>8.3f} {result['cpu_us_per_probe']:>9.1f} {result['probes'] - result['ok']:>8} {result['time_wait']:>10} "
            f"{result['worst_lag_ms']:>9.1f}")


HEAD = "type   backends  probes/s   cores  process  us/probe   not ok  time_wait   lag, ms"


def run(root: Path, program: Path, scenarios: list[tuple[str, int]], seconds: int, json_file: Path | None) -> int:
    """Exit status: 0 measured, 1 failed or TCP costs more than the target. Needs root."""
    if os.geteuid() != 0:
        print("tools/bench probes needs root: it makes a network namespace", file=sys.stderr)
        return 2
    _unshare(CLONE_NEWNET | CLONE_NEWNS)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)  # that of our network namespace
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    described = machine.describe()
    print(described["text"], flush=True)
    print(HEAD, flush=True)
    results = _measure(program, scenarios, seconds, lambda r: print(line(r), flush=True))
    if json_file:
        document = {"machine": described["text"], "commit": machine.commit(root), "load": described["load"],
                    "results": results}
        json_file.write_text(json.dumps(document, indent=1) + "\n")
    over = [r for r in results if r["type"] == "tcp" and r["cores"] * 10_000 > TARGET_CORES * r["probes_per_second"]]
    missing = [r for r in results if r["ok"] < 0.99 * r["backends"] * r["seconds"]]
    for r in over:
        print(f"over the target: {TARGET_CORES} cores for 10,000 TCP probes a second")
    for r in missing:
        print(f"{r['type']}: only {r['ok']} of {r['backends'] * r['seconds']:.0f} probes were answered")
    return 1 if over or missing else 0


def _unshare(kinds: int) -> None:
    """Namespaces of our own, which end with us."""
    if ctypes.CDLL(None, use_errno=True).unshare(kinds) != 0:
        raise OSError(ctypes.get_errno(), "unshare")

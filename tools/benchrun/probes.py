"""What probing costs: nginx as the one peer, in a network namespace of its own, and bench_probes beside it."""
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
                             str(folder / "nginx.conf")])


def _time_wait() -> int:
    """Sockets of this network namespace that wait out their time."""
    line = next(row for row in Path("/proc/net/sockstat").read_text().splitlines() if row.startswith("TCP:"))
    words = line.split()
    return int(words[words.index("tw") + 1])


def _measure(program: Path, scenarios: list[tuple[str, int]], seconds: int, show) -> list[dict]:
    """Runs in the namespace."""
    results = []
    with tempfile.TemporaryDirectory(prefix="detour-bench-") as name:
        nginx = _start_nginx(Path(name))
        try:
            deadline = time.monotonic() + 10
            while not (Path(name) / "pid").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            for kind, backends in scenarios:
                done = subprocess.run([str(program), kind, str(backends), str(PORTS[kind]), str(seconds)],
                                      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
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
            f"{result['cpu_us_per_probe']:>9.1f} {result['probes'] - result['ok']:>8} {result['time_wait']:>10} "
            f"{result['worst_lag_ms']:>9.1f}")


HEAD = "type   backends  probes/s   cores  us/probe   not ok  time_wait   lag, ms"


def run(root: Path, program: Path, scenarios: list[tuple[str, int]], seconds: int, json_file: Path | None) -> int:
    """Exit status: 0 measured, 1 failed or TCP costs more than the target. Needs root."""
    if os.geteuid() != 0:
        print("tools/bench probes needs root: it makes a network namespace", file=sys.stderr)
        return 2
    _unshare()
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


def _unshare() -> None:
    """A network namespace of our own, which ends with us."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")

"""What runs on the lab's nodes: nginx and echo on web servers, the decapsulator, the relay, and Detour itself.

Only texts and argument lists are made here; lab.py starts the processes.
"""
from __future__ import annotations

import os
from pathlib import Path

from .topology import TCP_PORTS, UDP_PORT, VIP4, VIP6, Node, Topology

LAB_PROGRAMS = ("netlab-relay", "netlab-echo")
GUE_PORT = 6080
SSH_PORT = 22
STREAM_BYTES = 1 << 34  # a sparse file: a download that does not end while a lab lives


def find_programs(build: Path, wanted: tuple[str, ...]) -> dict[str, str]:
    """Paths of our own executables below a build directory. Raises FileNotFoundError that says how to make them."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(build):
        depth = len(Path(folder).relative_to(build).parts)
        folders[:] = [f for f in folders if depth < 3 and not f.startswith(".") and not f.endswith(".p")]
        for name in set(files) & set(wanted):
            path = os.path.join(folder, name)
            if os.access(path, os.X_OK):
                found.setdefault(name, path)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise FileNotFoundError(
            f"not built below {build}: {', '.join(missing)} (meson setup {build}; ninja -C {build})")
    return found


def nginx_config(node: Node, folder: Path) -> str:
    """One nginx process: the freeze of a backend is then one SIGSTOP. Listens on every address of its host."""
    listens = "\n".join(f"    listen {port} backlog=4096;\n    listen [::]:{port} backlog=4096;" for port in TCP_PORTS)
    return f"""load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  default_type text/plain;
  keepalive_requests 100000000;
  keepalive_timeout 1h;
  client_header_timeout 1h;
  client_body_timeout 5m;
  send_timeout 1h;
  client_max_body_size 64m;
  client_body_buffer_size 64k;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  reset_timedout_connection on;
  tcp_nodelay on;
  add_header X-Site {node.site} always;
  add_header X-Backend {node.name} always;
  server {{
{listens}
    location = / {{ return 200 "{node.site} {node.name}\\n"; }}
    location = /healthz {{ return 200 "ok\\n"; }}
    location = /wait {{ echo_sleep 3600; echo "waited"; }}
    location = /stream {{ alias {folder}/stream; limit_rate 16k; }}
    location = /big {{ alias {folder}/stream; max_ranges 1; }}
    location = /upload {{ echo_read_request_body; echo "received $content_length"; }}
  }}
}}
"""


def nginx_command(folder: Path) -> list[str]:
    return ["/usr/sbin/nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]


def echo_command(program: str, node: Node) -> list[str]:
    """The UDP echo. A backend answers from the VIP, so it listens on each address by name."""
    addresses = [node.v4, f"[{node.v6}]"] + ([VIP4, f"[{VIP6}]"] if node.kind == "backend" else [])
    command = [program, "--banner", f"{node.site} {node.name}"]
    for address in addresses:
        command += ["--udp", f"{address}:{UDP_PORT}"]
    return command


def ssh_like_command(program: str) -> list[str]:
    """On the PoP host: a TCP listener as sshd is one, on all its addresses, the VIP's included."""
    return [program, "--banner", "SSH-2.0-lab", "--tcp", f"0.0.0.0:{SSH_PORT}", "--tcp", f"[::]:{SSH_PORT}"]


def decap_command(program: str, topology: Topology, node: Node) -> list[str]:
    sources = ["10.8.1.2/32", "2001:db8:8:1::2/128"]
    command = [program, "run", "--interface", "eth0"]
    for vip in (VIP4, VIP6):
        command += ["--vip", vip]
    for source in sources:
        command += ["--source", source]
    return command + ["--gue-port", str(GUE_PORT), "--clamp", "eth0"]


def relay_command(program: str, topology: Topology, folder: Path, rtt_ms: float) -> list[str]:
    command = [program, "--control", str(folder / "relay.sock"), "--delay-us", str(round(rtt_ms * 500)),
               "--mtu", str(topology.mtu)]
    for k in range(1, topology.clients + 1):
        command += ["--pair", f"c{k}:i{k}"]
    return command


def dataplane_command(program: str, folder: Path, extra: list[str]) -> list[str]:
    size = [] if "--flows-per-worker" in extra else ["--flows-per-worker", "65536"]
    return [program, "--port", "eth0", "--port", "eth1", "--workers", "1", "--socket", str(folder / "dataplane.sock"),
            "--state-dir", str(folder / "dataplane"), *size, *extra]


BFD_INTERVAL_MS, BFD_MULTIPLIER = 50, 3


def bird_config(router: Node) -> str:
    """BFD of a site's router with the PoP, over the backbone; nothing else."""
    timers = f"min rx interval {BFD_INTERVAL_MS} ms; min tx interval {BFD_INTERVAL_MS} ms; multiplier {BFD_MULTIPLIER};"
    return f"""router id {router.v4};
protocol device {{ }}
protocol bfd {{
    multihop {{ {timers} }};
    neighbor 10.8.1.2 local {router.v4} multihop yes;
}}
"""


def bird_command(folder: Path) -> list[str]:
    return ["/usr/sbin/bird", "-f", "-c", str(folder / "bird.conf"), "-s", str(folder / "bird.ctl"),
            "-P", str(folder / "bird.pid")]


def toml_value(value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml_value(v)}" for k, v in value.items()) + " }"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


HEALTH = {"type": "http", "port": 80, "path": "/healthz", "interval": "200ms", "timeout": "200ms",
          "fast_interval": "50ms", "fall": 2, "rise": 2}
# Labs cut the same site again and again: no damping, unless a test asks for it.
FAILOVER = {"panic_threshold": 0.5, "max_dark_sites": 1, "ramp": "3s", "strand_after": "2s",
            "auto_return_within": "10m", "flap_hold": "0s"}


def detour_config(topology: Topology, folder: Path, encap: str, outer: str, health: dict, failover: dict,
                  bfd: bool = False) -> str:
    """The one TOML file: two pools, `web` (TCP) and `echo` (UDP), in every site."""
    def table(rows: dict) -> str:
        return "\n".join(f"{key} = {toml_value(value)}" for key, value in rows.items())

    parts = [
        "[pop]", table({"name": "lab", "fleet_seed": "lab seed 5f2c8e1b9d47a630 not for production"}), "",
        "[dataplane]", table({
            "ports": ["eth0", "eth1"], "workers": 1, "source": ["10.8.1.2", "2001:db8:8:1::2"],
            "flows_per_worker": 65536, "socket": str(folder / "dataplane.sock"),
            "state_dir": str(folder / "dataplane")}),
        "", "[control]", table({"socket": str(folder / "control.sock"), "state_dir": str(folder / "control")}),
        "", "[failover]", table({**FAILOVER, **failover}), ""]
    for site in topology.sites:
        probe = {"type": "bfd", "address": topology.nodes[site].v4, "interval": f"{BFD_INTERVAL_MS}ms",
                 "multiplier": BFD_MULTIPLIER}
        parts += ["[[site]]", table({"name": site, "domain": ["lab", site], "tier": "active",
                                     **({"probe": [probe]} if bfd else {})}), ""]
    ports = " ".join(map(str, TCP_PORTS)).split()
    pools = (("web", [f"{VIP4}:{p}/tcp" for p in ports] + [f"[{VIP6}]:{p}/tcp" for p in ports]),
             ("echo", [f"{VIP4}:{UDP_PORT}/udp", f"[{VIP6}]:{UDP_PORT}/udp"]))
    for name, vips in pools:
        parts += ["[[pool]]", table({"name": name, "vip": vips, "encap": encap, "health": {**HEALTH, **health}}), ""]
        for site in topology.sites:
            for node in topology.detour_backends(site):
                address = node.v6 if outer == "v6" else node.v4
                parts += ["[[pool.backend]]", table({"site": site, "address": address, "weight": 100}), ""]
    return "\n".join(parts)



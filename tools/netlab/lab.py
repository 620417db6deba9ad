"""The lab: clients, routers, the PoP host that runs Detour, and sites with real nginx servers, in network namespaces.

    from netlab.lab import Lab              # with <repository>/tools on sys.path

    with Lab("mytest", rtt_ms=50) as lab:   # up; down on leaving, whatever happened, even by SIGKILL of this process
        answer = lab.request("203.0.113.10")             # GET / from the client to a VIP; an HTTP Response
        assert answer.site in lab.topology.sites         # X-Site; .backend, .body, .connect_s, .local
        cut = lab.darken("pangyo")                       # as a power cut; cut.before_ns is CLOCK_REALTIME
        lab.restore("pangyo")
        lab.lbctl("drain", "anyang", "--wait")           # CompletedProcess, raises when it fails
        lab.lbctl_json("events")                         # parsed --output json

What there is besides:
    Lab.attach(name)                 a lab that `tools/lab up` or another process made
    up(), down()                     what `with` calls; detour=False gives a lab without Detour and decapsulators
    exec(node, [cmd…])               run to its end; popen(node, [cmd…]) for pipes
    start(name, node, [cmd…])        a daemon that ends with the lab
    freeze(backend), thaw(backend)   SIGSTOP and SIGCONT of its servers: connections are taken, nothing is answered
    loss(link, percent[, direction]) links are named in lab.topology.links; "client" is the relay's wire
    delay(ms)                        round trip of the clients' wire, from now on
    signal(process, number), restart(process), alive(process)
                                     processes are "dataplane", "control", "relay", "nginx@pangyo-1", "decap@pangyo-1" …
    socket(node, family, kind)       a Python socket that lives in the node
    connect(node, address, port)     a connected TCP socket; TimeoutError for silence, ConnectionRefusedError for a RST
    api(method, path, body)          the control process's HTTP API without lbctl
    write_config(text)               replaces Detour's TOML; config_path, config_text()
    wait_serving()                   until both VIPs answer
    topology                         nodes, links, addresses: topology.py
    dir, log(process)                /run/detour-lab/NAME and log files in it

Node names: client (client1 … if several), wan, internet, pop, backbone, SITE (its router), SITE-1 … (nginx), SITE-gw.
Needs root. Not for use from several threads at once. Methods raise RuntimeError that says what was being done.
"""
from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal as signals
import socket as sockets_module
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import namespaces, processes, services, sockets
from .topology import DEFAULT_SITES, TCP_PORTS, UDP_PORT, VIP4, VIP6, Topology

ROOT = Path("/run/detour-lab")
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Cut:
    """When a link state changed: CLOCK_REALTIME just before and just after the one nftables commit."""

    before_ns: int
    after_ns: int


class Lab:
    def __init__(self, name: str = "lab", *, sites=DEFAULT_SITES, backends: int = 2, rtt_ms: float = 50,
                 clients: int = 1, mtu: int = 1500, detour: bool = True, build: str | Path | None = None,
                 encap: str = "gue", outer: str = "v4", health: dict | None = None, failover: dict | None = None,
                 config: str = "", dataplane_args=(), decap: bool | None = None, bfd: bool = False):
        """`health` and `failover` change keys of the generated TOML; `config` replaces it whole. `encap` is gue or
        ipip, `outer` the backends' address family. `decap` defaults to `detour`. With `bfd` each site's router runs
        BIRD, and Detour has a BFD session with it."""
        if not re.fullmatch(r"[a-z0-9]{1,20}", name):
            raise ValueError(f"lab name {name!r}: from 1 to 20 small letters and digits")
        self.name = name
        self.options = dict(
            sites=list(sites), backends=backends, rtt_ms=rtt_ms, clients=clients, mtu=mtu, detour=detour,
            build=str(build or os.environ.get("DETOUR_BUILD") or REPOSITORY / "build"), encap=encap, outer=outer,
            health=health or {}, failover=failover or {}, config=config, dataplane_args=list(dataplane_args),
            decap=detour if decap is None else decap, bfd=bfd)
        self.topology = Topology(self.options["sites"], backends, clients, mtu)
        self.dir = ROOT / name
        self._processes: dict[str, dict] = {}  # name -> node, pid, start, command, log, frozen
        self._links: dict[str, dict] = {n: {"dark": False, "loss": 0.0, "direction": "both"} for n in self.topology.links}
        self._children: list[subprocess.Popen] = []
        self._guard: processes.Guard | None = None
        self._programs: dict[str, str] = {}
        self._created_ns = 0

    # ---- life ----

    def __enter__(self) -> "Lab":
        return self.up()

    def __exit__(self, *_) -> None:
        self.down()

    @classmethod
    def attach(cls, name: str) -> "Lab":
        """The running lab of that name."""
        try:
            state = json.loads((ROOT / name / "state.json").read_text())
        except FileNotFoundError:
            raise RuntimeError(f"no lab {name!r} is up") from None
        lab = cls(name, **state["options"])
        lab._processes, lab._links = state["processes"], state["links"]
        lab._created_ns = state["created_ns"]
        lab._programs = state["programs"]
        return lab

    @staticmethod
    def names() -> list[str]:
        """Every lab of which something exists: a state folder or a namespace."""
        found = {p.name for p in ROOT.iterdir() if p.is_dir()} if ROOT.is_dir() else set()
        netns = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
        return sorted(found | {n.split("-")[1] for n in netns if re.match(r"dt-[a-z0-9]+-", n)})

    def up(self, keep: bool = False) -> "Lab":
        """Makes the lab and waits until it serves. On any failure nothing is left. With keep=True it lives on after
        this process; else it goes down with it."""
        if os.geteuid() != 0:
            raise RuntimeError("a lab needs root: it makes network namespaces")
        self._programs = services.find_programs(Path(self.options["build"]), self._needed_programs())
        self._guard = processes.Guard(lambda: _remove(self.name))
        try:
            with self._lock():
                self._refuse_existing()
                self.dir.mkdir(parents=True)
                self._created_ns = time.time_ns()
                self._save()
                _mount_bpffs()
                namespaces.create(self.name, self.topology)
                self._start_services()
            if keep:
                self._release_guard()
            return self
        except BaseException:
            self._undo()
            raise

    def down(self) -> None:
        """Ends every process of the lab and removes namespaces, links and files. Harmless when it is not up."""
        with self._lock():
            _remove(self.name)
        for child in self._children:
            child.wait()
        self._children.clear()
        self._processes.clear()
        self._release_guard()

    def _undo(self) -> None:
        """After a failure in up(). A second Ctrl-C must not stop the clean-up half-way."""
        mask = {signals.SIGINT, signals.SIGTERM, signals.SIGHUP}
        old = signals.pthread_sigmask(signals.SIG_BLOCK, mask)
        try:
            if not getattr(self, "_refused", False):
                self.down()
            self._release_guard()
        finally:
            signals.pthread_sigmask(signals.SIG_SETMASK, old)

    def _refuse_existing(self) -> None:
        self._refused = self.dir.exists() or bool(namespaces.existing(self.name))
        if self._refused:
            raise RuntimeError(
                f"a lab {self.name!r} exists already: `tools/lab down --name {self.name}`, or another name")

    def _release_guard(self) -> None:
        if self._guard is not None:
            self._guard.release()
            self._guard = None

    @contextmanager
    def _lock(self):
        """One up or down of a lab at a time. Not inherited: processes that are started close it."""
        ROOT.mkdir(parents=True, exist_ok=True)
        path = ROOT / f"{self.name}.lock"
        while True:
            with open(path, "w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                # down() deletes the file: who waited for that one must take the next.
                if not path.exists() or path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                    continue
                yield
                return

    def _save(self) -> None:
        state = {"name": self.name, "options": self.options, "created_ns": self._created_ns,
                 "programs": self._programs, "processes": self._processes, "links": self._links,
                 "nodes": {n.name: {"namespace": self.namespace(n.name), "kind": n.kind, "site": n.site, "v4": n.v4,
                                    "v6": n.v6} for n in self.topology.nodes.values()}}
        temporary = self.dir / "state.json.new"
        temporary.write_text(json.dumps(state, indent=1))
        temporary.rename(self.dir / "state.json")

    # ---- services ----

    def _needed_programs(self) -> tuple[str, ...]:
        needed = services.LAB_PROGRAMS
        if self.options["decap"]:
            needed += ("detour-decap",)
        if self.options["detour"]:
            needed += ("detour-dataplane", "detour-control", "lbctl")
        return needed

    def _start_services(self) -> None:
        topology, program = self.topology, self._programs
        self.start("relay", "wan", services.relay_command(program["netlab-relay"], topology, self.dir,
                                                          self.options["rtt_ms"]))
        self.start("ssh", "pop", services.ssh_like_command(program["netlab-echo"]))
        for node in topology.web_servers():
            folder = self.dir / node.name
            folder.mkdir()
            (folder / "nginx.conf").write_text(services.nginx_config(node, folder))
            with open(folder / "stream", "wb") as stream:
                stream.truncate(services.STREAM_BYTES)
            self.start(f"nginx@{node.name}", node.name, services.nginx_command(folder))
            self.start(f"echo@{node.name}", node.name, services.echo_command(program["netlab-echo"], node))
        if self.options["decap"]:
            for site in topology.sites:
                for node in topology.detour_backends(site):
                    self.start(f"decap@{node.name}", node.name,
                               services.decap_command(program["detour-decap"], topology, node))
        if self.options["bfd"]:
            for site in topology.sites:
                folder = self.dir / f"bird-{site}"
                folder.mkdir()
                (folder / "bird.conf").write_text(services.bird_config(topology.nodes[site]))
                self.start(f"bird@{site}", site, services.bird_command(folder))
        self._wait_services()
        self._warm()
        if self.options["detour"]:
            self._start_detour()

    def _wait_services(self) -> None:
        for name in self._processes:
            if name.startswith("nginx@"):
                pid = self._processes[name]["pid"]
                self._wait(name, lambda pid=pid: all(processes.listening(pid, port) for port in TCP_PORTS))
            elif name.startswith("bird@"):
                self._wait(name, lambda name=name: _accepts(self.dir / name.replace("@", "-") / "bird.ctl"))
            else:
                self._wait(name, lambda name=name: "ready" in self.log(name).read_text(errors="replace"))

    def _wait(self, what: str, check, seconds: float = 20) -> None:
        """`what` begins with a process's name; its end ends the waiting, its log explains a failure."""
        name = what.split("'")[0]
        pid = self._processes[name]["pid"]
        child = next((c for c in self._children if c.pid == pid), None)
        processes.wait_for(what, check, seconds, child, self.log(name))

    def _warm(self) -> None:
        """The one link without static neighbours: let the PoP and the backbone learn each other."""
        for address in ("10.8.1.1", "2001:db8:8:1::1"):
            self.exec("pop", ["ping", "-n", "-c", "1", "-W", "2", address])

    def _start_detour(self) -> None:
        (self.dir / "dataplane").mkdir(exist_ok=True)
        (self.dir / "control").mkdir(exist_ok=True)
        self.write_config(self.options["config"] or services.detour_config(
            self.topology, self.dir, self.options["encap"], self.options["outer"], self.options["health"],
            self.options["failover"], self.options["bfd"]))
        self.start("dataplane", "pop", services.dataplane_command(
            self._programs["detour-dataplane"], self.dir, self.options["dataplane_args"]))
        self.wait_accepting("dataplane")
        self.start("control", "pop", [self._programs["detour-control"], "--config", str(self.config_path)])
        self.wait_accepting("control")
        self.wait_serving()
        if not self.options["config"]:
            self._wait("control's backends, all up", self._all_up, 15)

    def _all_up(self) -> bool:
        return all(backend["state"] == "up" for backend in self.api("GET", "/v1/backends"))

    def wait_serving(self, seconds: float = 30) -> None:
        """Until a client gets an answer from both VIPs."""
        deadline = time.monotonic() + seconds
        for vip in (VIP4, VIP6):
            while True:
                try:
                    if self.request(vip, timeout=1).status == 200:
                        break
                except OSError as error:
                    if time.monotonic() > deadline:
                        logs = "".join(processes.log_tail(self.log(n)) for n in ("dataplane", "control"))
                        raise RuntimeError(f"{vip} does not answer within {seconds:g} s: {error}{logs}") from None
                time.sleep(0.05)

    @property
    def config_path(self) -> Path:
        return self.dir / "detour.toml"

    def config_text(self) -> str:
        return self.config_path.read_text()

    def write_config(self, text: str) -> None:
        """Replaces the TOML file at once (rename); nobody is told."""
        temporary = self.dir / "detour.toml.new"
        temporary.write_text(text)
        temporary.rename(self.config_path)

    # ---- processes ----

    def namespace(self, node: str) -> str:
        if node not in self.topology.nodes:
            raise RuntimeError(f"no node {node!r}; there are: {', '.join(self.topology.nodes)}")
        return namespaces.namespace(self.name, node)

    def log(self, process: str) -> Path:
        return self.dir / f"{process}.log"

    def start(self, name: str, node: str, command: list[str], env: dict[str, str] | None = None) -> subprocess.Popen:
        """A daemon in a node, known to the lab by `name`; its output goes to log(name). Ends with the lab."""
        child = processes.spawn(self.namespace(node), command, self.log(name), env)
        self._children.append(child)
        identity = processes.identify(child.pid)
        self._processes[name] = {"node": node, "pid": child.pid, "start": identity.start, "command": command,
                                 "log": str(self.log(name)), "frozen": False}
        self._save()
        return child

    def process(self, name: str) -> processes.ProcessId:
        if name not in self._processes:
            raise RuntimeError(f"no process {name!r}; there are: {', '.join(self._processes)}")
        return processes.ProcessId(self._processes[name]["pid"], self._processes[name]["start"])

    def alive(self, name: str) -> bool:
        return processes.alive(self.process(name))

    def signal(self, name: str, number: int) -> None:
        """Sends a signal to one of the lab's processes. After SIGKILL, waits until it is gone: a thread may still wait for the disk."""
        if not processes.send(self.process(name), number):
            raise RuntimeError(f"process {name} has ended{processes.log_tail(self.log(name))}")
        if number == signals.SIGKILL:
            processes.wait_gone([self.process(name)], 30)
            self._reap()

    def restart(self, name: str) -> None:
        """Starts a process again with the same command (ends the old one first, if it is still there). Waits until it
        is ready where that can be known; for Detour's two that means that its socket accepts."""
        old = self._processes[name]
        processes.end([self.process(name)])
        self._reap()
        self.start(name, old["node"], old["command"])
        if name in ("dataplane", "control"):
            self.wait_accepting(name)

    def wait_accepting(self, name: str, seconds: float = 60) -> None:
        """Until "dataplane" or "control" takes connections on its Unix socket."""
        self._wait(name, lambda: _accepts(self.dir / f"{name}.sock"), seconds)

    def _reap(self) -> None:
        for child in self._children:
            child.poll()

    def exec(self, node: str, command: list[str], *, check: bool = True, timeout: float = 60,
             input: str | None = None) -> subprocess.CompletedProcess:
        """Runs a command in a node to its end; text in stdout and stderr. Raises RuntimeError when it fails."""
        done = subprocess.run(["nsenter", f"--net=/run/netns/{self.namespace(node)}", *command], capture_output=True,
                              text=True, timeout=timeout, input=input)
        if check and done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise RuntimeError(f"{node}: {' '.join(command)}: status {done.returncode}: {said}")
        return done

    def popen(self, node: str, command: list[str], **options) -> subprocess.Popen:
        """subprocess.Popen in a node. Ends with the lab, if it has not ended before."""
        child = subprocess.Popen(["nsenter", f"--net=/run/netns/{self.namespace(node)}", *command], **options)
        self._children.append(child)
        return child

    def program(self, name: str) -> str:
        """Path of one of our executables, e.g. "netlab-loadgen"."""
        return self._programs.get(name) or services.find_programs(Path(self.options["build"]), (name,))[name]

    def lbctl(self, *arguments: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess:
        try:
            return self.exec("pop", [self.program("lbctl"), "--socket", str(self.dir / "control.sock"), *arguments],
                             check=check, timeout=timeout)
        except RuntimeError as error:
            if self.alive("control"):
                raise
            raise RuntimeError(f"{error}; process control has ended{processes.log_tail(self.log('control'))}") from None

    def lbctl_json(self, *arguments: str):
        """Parsed `--output json`; of `events`, which prints a line each, a list."""
        text = self.lbctl(*arguments, "--output", "json").stdout
        return [json.loads(line) for line in text.splitlines()] if arguments[0] == "events" else json.loads(text)

    def api(self, method: str, path: str, body=None, timeout: float = 30):
        """One request to the control process's HTTP API (docs/api.md); the JSON answer. RuntimeError when it is none of
        the 200s or nobody answers."""
        try:
            return sockets.unix_json(self.dir / "control.sock", method, path, body, timeout)
        except OSError as error:
            raise RuntimeError(f"{method} {path}: the control process does not answer: {error}"
                               f"{processes.log_tail(self.log('control'))}") from None

    # ---- faults ----

    def darken(self, site: str, link: str = "both") -> Cut:
        """Cuts a site's links as a power cut does: nothing answers, nothing refuses, the carrier stays."""
        return self._set_site(site, link, dark=True)

    def restore(self, site: str, link: str = "both") -> Cut:
        return self._set_site(site, link, dark=False)

    def _set_site(self, site: str, which: str, dark: bool) -> Cut:
        if site not in self.topology.sites:
            raise RuntimeError(f"no site {site!r}; there are: {', '.join(self.topology.sites)}")
        if which not in ("backbone", "internet", "both"):
            raise RuntimeError(f"link {which!r}: expected backbone, internet or both")
        names = [f"{site}-{w}" for w in (("backbone", "internet") if which == "both" else (which,))]
        for name in names:
            self._links[name]["dark"] = dark
        return self._apply_links(names)

    def _apply_links(self, names: list[str]) -> Cut:
        """All links of one node, in one commit."""
        node = self.topology.links[names[0]].a
        lines = []
        for name in names:
            lines += namespaces.link_rules(self.topology.links[name], **self._links[name])
        before, after = namespaces.apply_rules(self.name, node, lines)
        self._save()
        return Cut(before, after)

    def loss(self, link: str, percent: float, direction: str = "both") -> Cut | None:
        """Random loss on a link; 0 ends it. "client" (or "client2" …) is the relay's wire, always both directions. Of
        SITE-backbone and SITE-internet, "to" is towards the site and "from" away from it."""
        if direction not in ("both", "to", "from"):
            raise RuntimeError(f"direction {direction!r}: expected both, to or from")
        if not 0 <= percent <= 100:
            raise RuntimeError(f"loss {percent}: expected 0 to 100 percent")
        node = self.topology.nodes.get(link)
        if node is not None and node.kind == "client":
            number = 1 if link == "client" else int(link.removeprefix("client"))
            for side in (f"c{number}", f"i{number}"):
                self._relay(f"loss {side} {round(percent * 100)}")
            return None
        if link not in self.topology.links or not namespaces.cuttable(self.topology.links[link]):
            known = [n for n, k in self.topology.links.items() if namespaces.cuttable(k)]
            clients = [n.name for n in self.topology.nodes.values() if n.kind == "client"]
            raise RuntimeError(f"no link {link!r}; there are: {', '.join(clients + known)}")
        self._links[link]["loss"] = percent
        self._links[link]["direction"] = direction
        return self._apply_links([link])

    def delay(self, rtt_ms: float) -> None:
        self._relay(f"delay all {round(rtt_ms * 500)}")

    def relay_stats(self) -> dict[str, dict[str, int]]:
        """Frames per direction of the clients' wire, named by the interface they arrive on."""
        names = ("received", "sent", "lost", "overflowed", "queued")
        rows = (line.split() for line in self._relay("stats").splitlines())
        return {row[0]: dict(zip(names, map(int, row[1:]))) for row in rows}

    def _relay(self, text: str) -> str:
        with sockets_module.socket(sockets_module.AF_UNIX, sockets_module.SOCK_DGRAM) as sock:
            own = self.dir / f"relay-{os.getpid()}.reply"
            sock.bind(str(own))
            try:
                sock.settimeout(5)
                sock.sendto(text.encode(), str(self.dir / "relay.sock"))
                answer = sock.recv(65536).decode()
            finally:
                own.unlink()
        if answer.startswith("error"):
            raise RuntimeError(f"relay: {answer.strip()}")
        return answer

    def freeze(self, backend: str) -> None:
        """A host that hangs: its kernel takes connections, its servers answer nothing."""
        self._set_frozen(backend, True)

    def thaw(self, backend: str) -> None:
        self._set_frozen(backend, False)

    def _set_frozen(self, backend: str, frozen: bool) -> None:
        for node in self._servers_of(backend):
            for name in (f"nginx@{node}", f"echo@{node}"):
                self.signal(name, signals.SIGSTOP if frozen else signals.SIGCONT)
                self._processes[name]["frozen"] = frozen
        self._save()

    def _servers_of(self, backend: str) -> list[str]:
        """By node name or address; a gateway stands for the servers behind it."""
        for node in self.topology.nodes.values():
            if backend in (node.name, node.v4, node.v6) and node.kind in ("backend", "server", "gateway"):
                return [n.name for n in self.topology.web_servers(node.site)] if node.kind == "gateway" else [node.name]
        known = [n.name for n in self.topology.nodes.values() if n.kind in ("backend", "server", "gateway")]
        raise RuntimeError(f"no backend {backend!r}; there are: {', '.join(known)}")

    # ---- traffic ----

    def _client(self, node: str) -> str:
        return node or next(n.name for n in self.topology.nodes.values() if n.kind == "client")

    def request(self, address: str, port: int = 80, path: str = "/", *, node: str = "", **options) -> sockets.Response:
        """One HTTP request from a node (the first client by default): method, body, source=(address, port), timeout."""
        return sockets.request(self.namespace(self._client(node)), address, port, path, **options)

    def connect(self, node: str, address: str, port: int, *, source: tuple[str, int] | None = None,
                timeout: float = 5) -> sockets_module.socket:
        return sockets.connect(self.namespace(self._client(node)), address, port, source, timeout)

    def socket(self, node: str, family: int, kind: int, protocol: int = 0) -> sockets_module.socket:
        return sockets.open_socket(self.namespace(node), family, kind, protocol)

    def udp_echo(self, address: str, payload: bytes = b"hello", *, port: int = UDP_PORT, node: str = "",
                 timeout: float = 2) -> bytes:
        """One datagram to an echo and its answer, "SITE BACKEND payload". TimeoutError for silence."""
        family = sockets_module.AF_INET6 if ":" in address else sockets_module.AF_INET
        with self.socket(self._client(node), family, sockets_module.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            sock.connect((address, port))
            sock.send(payload)
            return sock.recv(65536)

    # ---- report ----

    def status(self) -> dict:
        """Nodes, processes (with `alive`) and links (with `dark` and `loss`), for people and for JSON."""
        return {
            "name": self.name, "dir": str(self.dir), "options": self.options,
            "nodes": {n.name: {"kind": n.kind, "site": n.site, "v4": n.v4, "v6": n.v6,
                               "namespace": self.namespace(n.name)} for n in self.topology.nodes.values()},
            "processes": {n: {**p, "alive": self.alive(n)} for n, p in self._processes.items()},
            "links": self._links}


def _accepts(path: Path) -> bool:
    """Whether somebody listens on a Unix socket."""
    with sockets_module.socket(sockets_module.AF_UNIX, sockets_module.SOCK_STREAM) as sock:
        try:
            sock.settimeout(1)
            sock.connect(str(path))
            return True
        except OSError:
            return False


def _mount_bpffs() -> None:
    """libxdp needs it; a machine without systemd has it unmounted."""
    if not os.path.ismount("/sys/fs/bpf"):
        subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=True)


def _remove(name: str) -> None:
    """Everything of a lab, from its prefix and its state folder; works after any half-done up() too."""
    folder = ROOT / name
    try:
        recorded = json.loads((folder / "state.json").read_text())["processes"].values()
    except (OSError, ValueError, KeyError):
        recorded = []
    processes.end([processes.ProcessId(p["pid"], p["start"]) for p in recorded])
    namespaces.destroy(name)
    shutil.rmtree(folder, ignore_errors=True)
    (ROOT / f"{name}.lock").unlink(missing_ok=True)

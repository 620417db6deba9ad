"""A small network for BFD, and the daemons that speak it: ours, BIRD and FRR.

    us ── link 10.1.0.0/24, fd01::/64 ── peer          single hop
    us ── 10.2.0.0/24 ── router ── 10.3.0.0/24 ── peer  multi hop (fd02::/64, fd03::/64)
    us ── two links, WIDE_LINKS ── peer                 single hop, many sessions, added by widen()

The daemons are started by hand in the namespace `peer`, each with its own folder, and killed by their process ids.
"""
import json
import os
import select
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

DEADLINE_SECONDS = 15.0
SESSIONS = {
    "single4": ("single", "10.1.0.1", "10.1.0.2"),
    "single6": ("single", "fd01::1", "fd01::2"),
    "multi4": ("multi", "10.2.0.1", "10.3.0.2"),
    "multi6": ("multi", "fd02::1", "fd03::2"),
}
LINKS = (("us", "direct", "peer", "direct", 1), ("us", "far", "router", "near", 2), ("router", "on", "peer", "far", 3))
WIDE_LINKS = {"first": 4, "second": 5}


def wide_sessions(count):
    """As many single-hop sessions, each with two addresses of its own: half on each link, half of those IPv6."""
    sessions = {}
    for link, number in WIDE_LINKS.items():
        for i in range(1, count // 4 + 1):
            sessions[f"{link}4-{i}"] = ("single", f"10.{number}.{i}.1", f"10.{number}.{i}.2", link)
            sessions[f"{link}6-{i}"] = ("single", f"fd0{number}:{i:x}::1", f"fd0{number}:{i:x}::2", link)
    return sessions


def command(*words, check=True):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=30)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}")
    return done.stdout


class Network:
    def __init__(self):
        self._label = f"dtbfd{os.getpid()}"
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def name(self, host):
        return f"{self._label}{host}"

    def exec(self, host, *words, check=True):
        return command("ip", "netns", "exec", self.name(host), *words, check=check)

    def ip(self, host, *words):
        return command("ip", "-n", self.name(host), *words)

    def _build(self):
        for host in ("us", "router", "peer"):
            command("ip", "netns", "add", self.name(host))
            self.ip(host, "link", "set", "lo", "up")
        for a, a_device, b, b_device, number in LINKS:
            self._link(a, a_device, b, b_device)
            for host, device, last in ((a, a_device, 1), (b, b_device, 2)):
                self._address(host, device, f"10.{number}.0.{last}")
                self._address(host, device, f"fd0{number}::{last}")
        self.exec("router", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.ip("us", "route", "add", "10.3.0.0/24", "via", "10.2.0.2")
        self.ip("us", "-6", "route", "add", "fd03::/64", "via", "fd02::2")
        self.ip("peer", "route", "add", "10.2.0.0/24", "via", "10.3.0.1")
        self.ip("peer", "-6", "route", "add", "fd02::/64", "via", "fd03::1")

    def _link(self, a, a_device, b, b_device):
        self.ip(a, "link", "add", a_device, "type", "veth", "peer", "name", b_device, "netns", self.name(b))
        for host, device in ((a, a_device), (b, b_device)):
            self.ip(host, "link", "set", device, "up")
            self.exec(host, "ethtool", "-K", device, "tx", "off")

    def _address(self, host, device, address):
        self.ip(host, "address", "add", *([f"{address}/64", "nodad"] if ":" in address else [f"{address}/24"]),
                "dev", device)

    def widen(self, sessions):
        """The links and addresses of wide_sessions()."""
        for link in WIDE_LINKS:
            self._link("us", link, "peer", link)
        for _, ours, theirs, link in sessions.values():
            self._address("us", link, ours)
            self._address("peer", link, theirs)

    def narrow(self):
        for link in WIDE_LINKS:
            self.ip("us", "link", "del", link)

    def close(self):
        for host in ("us", "router", "peer"):
            command("ip", "netns", "del", self.name(host), check=False)


@dataclass(frozen=True)
class Event:
    session: str
    state: str
    diagnostic: str
    remote_state: str
    nanoseconds: int  # CLOCK_MONOTONIC


class Speaker:
    """The runner under test, in one namespace."""

    def __init__(self, network, host, sessions):
        arguments = [f"{name}={','.join(parts)}" for name, parts in sessions.items()]
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", network.name(host), os.environ["BFD_SPEAKER"], *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._pending = b""
        self._events = []
        self._answers = []
        self._wait(lambda: "ready" in self._answers, DEADLINE_SECONDS, "ready")
        self._answers.clear()

    @property
    def pid(self):
        return self._process.pid

    def _wait(self, done, seconds, what):
        until = time.monotonic() + seconds
        while not done():
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise TimeoutError(f"no {what}; events so far: {self._events}")
            chunk = os.read(self._process.stdout.fileno(), 65536)
            if not chunk:
                raise RuntimeError(f"the speaker ended with {self._process.wait()}")
            *lines, self._pending = (self._pending + chunk).split(b"\n")
            for line in lines:
                self._take(line.decode())

    def _take(self, line):
        word, *rest = line.split()
        if word == "event":
            self._events.append(Event(*rest[:4], int(rest[4])))
        else:
            self._answers.append(line)

    def send(self, line):
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def ask(self, line):
        self.send(line)
        self._wait(lambda: self._answers, DEADLINE_SECONDS, f"answer to {line}")
        return self._answers.pop(0)

    def counters(self):
        return {key: int(value) for key, value in (word.split("=") for word in self.ask("counters").split()[1:])}

    def status(self, session):
        """(state, diagnostic, remote state, transmit interval, detection time), intervals in microseconds."""
        words = self.ask(f"status {session}").split()
        return (*words[2:5], int(words[6]), int(words[7]))

    def until_intervals(self, session, wanted):
        """Until (transmit interval, detection time) are as wanted: the polls of both sides are through."""
        until = time.monotonic() + DEADLINE_SECONDS
        while self.status(session)[3:] != wanted:
            if time.monotonic() > until:
                raise TimeoutError(f"{session}: {self.status(session)}, not {wanted}")
            time.sleep(0.01)  # between two questions

    def until(self, session, wanted, seconds=DEADLINE_SECONDS):
        """Takes the session's events up to the first one for which wanted(event) is true, and returns it."""
        def found():
            while self._events_of(session):
                event = self._events_of(session)[0]
                self._events.remove(event)
                if wanted(event):
                    taken.append(event)
                    return True
            return False
        taken = []
        self._wait(found, seconds, f"wanted event of {session}")
        return taken[0]

    def events_within(self, seconds):
        """All events that come, and what had not been taken before."""
        try:
            self._wait(lambda: False, seconds, "")
        except TimeoutError:
            pass
        taken, self._events = self._events, []
        return taken

    def _events_of(self, session):
        return [event for event in self._events if event.session == session]

    def close(self):
        """A clean stop: its end of stdin."""
        self._process.stdin.close()
        self._process.wait(timeout=DEADLINE_SECONDS)
        self._process.stdout.close()

    def kill(self):
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


class Daemons:
    """Processes of one peer. They stay in the foreground, so that their ids are known."""

    def __init__(self, network, folder: Path):
        self.network = network
        self.folder = folder
        self._processes = []

    def start(self, name, *words):
        with open(self.folder / f"{name}.log", "ab") as log:
            self._processes.append(subprocess.Popen(
                ["ip", "netns", "exec", self.network.name("peer"), *map(str, words)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def kill(self):
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes.clear()


BIRD = """
router id 10.3.0.2;
log stderr all;
protocol device {{ }}
protocol bfd detour {{
    interface "*" {{ min rx interval 50 ms; min tx interval 50 ms; multiplier 3; }};
    multihop {{ min rx interval 50 ms; min tx interval 50 ms; multiplier 3; }};
    {neighbours}
}}
"""


def bird_neighbour(hop, ours, theirs, device="direct"):
    """The peer's own end of one of our sessions."""
    return f'neighbor {ours} ' + (f'local {theirs} multihop yes;' if hop == "multi" else
                                  f'dev "{device}" local {theirs};')


class Bird(Daemons):
    def __init__(self, network, folder, sessions):
        super().__init__(network, folder)
        neighbours = "\n    ".join(bird_neighbour(*session) for session in sessions.values())
        (folder / "bird.conf").write_text(BIRD.format(neighbours=neighbours))

    def run(self):
        self.start("bird", "bird", "-f", "-c", self.folder / "bird.conf", "-s", self.folder / "bird.ctl",
                   "-P", self.folder / "bird.pid")


FRR_TIMERS = ("detect-multiplier 3", "receive-interval 50", "transmit-interval 50", "no shutdown")


def frr_peer(hop, ours, theirs, device="direct"):
    """How FRR's configuration names its own end of one of our sessions."""
    return f"peer {ours} " + (f"multihop local-address {theirs}" if hop == "multi" else
                              f"local-address {theirs} interface {device}")


def frr_config(sessions):
    lines = ["bfd"]
    for session in sessions.values():
        hops = ("minimum-ttl 254",) if session[0] == "multi" else ()
        lines += [f" {frr_peer(*session)}", *(f"  {line}" for line in (*FRR_TIMERS, *hops)), " exit"]
    return "\n".join([*lines, "exit", ""])


class Frr(Daemons):
    """zebra tells bfdd the interfaces."""

    def __init__(self, network, folder, sessions):
        super().__init__(network, folder)
        self._sessions = sessions
        (folder / "bfdd.conf").write_text(frr_config(sessions))
        (folder / "zebra.conf").write_text("")
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "frr", "frr")

    def run(self):
        for name, more in (("zebra", ()), ("bfdd", ("--bfdctl", self.folder / "bfdd.ctl"))):
            if name == "bfdd":
                self._wait_for_zebra()  # bfdd would try again only after 10 s
            self.start(name, f"/usr/lib/frr/{name}", "-u", "frr", "-g", "frr", "-P", "0", "-A", "127.0.0.1",
                       "-f", self.folder / f"{name}.conf", "-i", self.folder / f"{name}.pid",
                       "-z", self.folder / "zserv.api", "--vty_socket", self.folder, "--log", "stdout", *more)

    def _wait_for_zebra(self):
        until = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < until:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(self.folder / "zserv.api")) == 0:
                    return
            time.sleep(0.01)  # between two tries
        raise TimeoutError((self.folder / "zebra.log").read_text())

    def configure(self, session, line):
        """One line of a peer's configuration, while it runs."""
        self.network.exec("peer", "vtysh", "--vty_socket", self.folder, "-c", "configure terminal", "-c", "bfd",
                          "-c", frr_peer(*self._sessions[session]), "-c", line)

    def show(self, session):
        """What FRR says of one session."""
        text = self.network.exec("peer", "vtysh", "--vty_socket", self.folder, "-c", "show bfd peers json")
        return next(peer for peer in json.loads(text) if peer["peer"] == self._sessions[session][1])

    def until(self, session, key, value):
        until = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < until:
            if self.show(session).get(key) == value:
                return
            time.sleep(0.01)  # between two questions
        raise TimeoutError(f"{session}: no {key} = {value}: {self.show(session)}")

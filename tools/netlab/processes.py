"""Starting, signalling and ending the lab's processes, so that no other process can ever be hit.

A process is named by its pid and its start time (/proc/PID/stat, field 22); signals go through a pidfd that is opened
before the start time is compared, so that a recycled pid is never signalled.
"""
from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessId:
    pid: int
    start: int  # clock ticks since boot


def process_stat(pid: int) -> tuple[str, int, int] | None:
    """State letter, start time and number of threads, or None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[19]), int(fields[17])


def identify(pid: int) -> ProcessId:
    stat = process_stat(pid)
    return ProcessId(pid, stat[1] if stat else 0)


def alive(process: ProcessId) -> bool:
    """False also for a zombie, and for another process that got the same pid.

    A killed process whose first thread is a zombie still holds its files while another thread waits for the disk."""
    stat = process_stat(process.pid)
    return stat is not None and stat[1] == process.start and (stat[0] not in "ZX" or stat[2] > 1)


def send(process: ProcessId, number: int) -> bool:
    """Signals that process and no other. False when it is gone."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if not alive(process):
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)


def end(processes: list[ProcessId], patience: float = 3.0) -> None:
    """SIGTERM to all, SIGKILL to those that are still there after `patience` seconds; returns when all are gone."""
    for process in processes:
        send(process, signal.SIGTERM)
        send(process, signal.SIGCONT)  # a frozen one must run to see the SIGTERM
    left = wait_gone(processes, patience)
    for process in left:
        send(process, signal.SIGKILL)
    left = wait_gone(left, 30.0)  # one may wait for the disk
    if left:
        raise RuntimeError(f"processes {[p.pid for p in left]} do not end, not even by SIGKILL")


def wait_gone(processes: list[ProcessId], seconds: float) -> list[ProcessId]:
    """Waits until none is alive; the ones that still are when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        left = [p for p in processes if alive(p)]
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(0.01)


def in_namespaces(namespaces: list[str]) -> list[ProcessId]:
    """Every process whose network namespace is one of these."""
    wanted = set()
    for name in namespaces:
        try:
            wanted.add(os.stat(f"/run/netns/{name}").st_ino)
        except OSError:
            continue
    found = []
    for entry in os.listdir("/proc") if wanted else []:
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            inode = os.stat(f"/proc/{entry}/ns/net").st_ino
        except OSError:
            continue
        if inode in wanted:
            found.append(identify(int(entry)))
    return found


def spawn(namespace: str, command: list[str], log: Path, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Starts a command in a network namespace, in a session of its own, output appended to `log`.

    nsenter keeps the mount namespace (and with it /sys/fs/bpf), which `ip netns exec` does not, and execs, so that the
    pid is the command's own."""
    with open(log, "ab") as out:
        return subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{namespace}", *command], stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True, env=env)


def wait_for(what: str, check, seconds: float, process: subprocess.Popen[bytes] | None = None,
             log: Path | None = None) -> None:
    """Waits until check() is true. An error, with the log's end, when time is over or the process ends before."""
    deadline = time.monotonic() + seconds
    while not check():
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() >= deadline:
            why = f"its process ended with status {process.returncode}" if ended else f"not within {seconds:g} s"
            raise RuntimeError(f"waiting for {what}: {why}{log_tail(log)}")
        time.sleep(0.01)


def log_tail(log: Path | None, lines: int = 15) -> str:
    try:
        text = log.read_text(errors="replace").splitlines()[-lines:] if log else []
    except OSError:
        text = []
    return "".join(f"\n    {log.name}: {line}" for line in text) if log and text else ""


def listening(pid: int, port: int, protocol: str = "tcp") -> bool:
    """Whether something in that process's network namespace listens on the port (all families)."""
    for table in (protocol, protocol + "6"):
        try:
            rows = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            if int(columns[1].rsplit(":", 1)[1], 16) == port and columns[3] in ("0A", "07"):
                return True
    return False


class Guard:
    """Takes the lab down when its owner dies without doing so (also by SIGKILL).

    A forked child in a session of its own reads from a pipe whose other end only the owner holds. End of file without
    the word "release" means that the owner is gone."""

    def __init__(self, clean_up) -> None:
        reader, self._writer = os.pipe()  # both close on exec
        pid = os.fork()
        if pid == 0:
            os.close(self._writer)
            self._watch(reader, clean_up)
        os.close(reader)
        self.process = identify(pid)

    @staticmethod
    def _watch(reader: int, clean_up) -> None:
        try:
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):  # nobody may wait for an end of file from us
                os.dup2(null, descriptor)
            if os.read(reader, 16) != b"release":
                clean_up()
        finally:
            os._exit(0)

    def release(self) -> None:
        """The owner has cleaned up, or leaves the lab to live on."""
        if self._writer >= 0:
            os.write(self._writer, b"release")
            os.close(self._writer)
            self._writer = -1
            try:
                os.waitpid(self.process.pid, 0)
            except ChildProcessError:
                pass

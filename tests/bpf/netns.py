"""Two network namespaces joined by one veth pair, and raw access to one end.

Names carry the test process's id, so several runs can stand side by side. Closing removes everything.
"""

import contextlib
import ctypes
import os
import select
import socket
import struct
import subprocess
import time

DEADLINE_SECONDS = 5.0
_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_CHECKSUM_NOT_READY = 8
_ETH_P_ALL = 3


def command(*words, check=True):
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def inside(namespace):
    """The calling thread is in `namespace` meanwhile; a socket opened here stays there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
    try:
        if _libc.setns(there, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"entering {namespace}")
        yield
    finally:
        _libc.setns(home, _CLONE_NEWNET)
        os.close(home)
        os.close(there)


class Wire:
    """The near end of the cable: whole frames out and in, with what the kernel says of their checksum."""

    def __init__(self, namespace, interface):
        with inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            self._socket.bind((interface, 0))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)

    def send(self, frame):
        self._socket.send(frame)

    def receive(self, wanted, seconds=DEADLINE_SECONDS):
        """The first frame for which wanted(frame) is true, and whether its checksum is only partial."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                break
            frame, ancillary, _, address = self._socket.recvmsg(65536, 256)
            if address[2] == socket.PACKET_OUTGOING or not wanted(frame):
                continue
            status = [struct.unpack_from("I", data)[0] for level, _, data in ancillary if level == _SOL_PACKET]
            return frame, bool(status and status[0] & _CHECKSUM_NOT_READY)
        raise TimeoutError("no such frame came back")

    def close(self):
        self._socket.close()


class Pair:
    """`near` (where the test sends) and `far` (what is tested), joined by the interfaces "near" and "far"."""

    NEAR_MAC = "02:00:00:00:00:01"
    FAR_MAC = "02:00:00:00:00:02"

    def __init__(self, label):
        self.near = f"{label}{os.getpid()}n"
        self.far = f"{label}{os.getpid()}f"
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self):
        for name in (self.near, self.far):
            command("ip", "netns", "add", name)
            command("ip", "-n", name, "link", "set", "lo", "up")
        command("ip", "-n", self.near, "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", self.far)
        for name, device, mac in ((self.near, "near", self.NEAR_MAC), (self.far, "far", self.FAR_MAC)):
            command("ip", "netns", "exec", name, "sysctl", "-qw", f"net.ipv6.conf.{device}.accept_ra=0",
                    f"net.ipv6.conf.{device}.accept_dad=0")
            command("ip", "-n", name, "link", "set", device, "address", mac, "up")
            self.offload(name, device, "off")

    @staticmethod
    def offload(namespace, device, value):
        command("ip", "netns", "exec", namespace, "ethtool", "-K", device, "tx", value, "txvlan", "off", "rxvlan", "off")

    def close(self):
        for name in (self.near, self.far):
            command("ip", "netns", "del", name, check=False)

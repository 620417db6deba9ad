"""What the PoP host itself sends to the clients, taken off its wire with the kernel's timestamps.

On the router's end of the PoP's client link only answers of Detour's own come in: the servers answer directly.
"""
import socket
import struct
import time
from dataclasses import dataclass

ETH_P_ALL = 3
PACKET_IGNORE_OUTGOING = 23
SOL_PACKET = 263
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
SYN, RST, ACK = 2, 4, 16


@dataclass(frozen=True)
class Segment:
    """A TCP segment from a VIP to a client; `time` is CLOCK_REALTIME seconds."""

    time: float
    client: str
    port: int
    flags: int
    sequence: int


class PopCapture:
    def __init__(self, lab):
        self._socket = lab.socket("internet", socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self._socket.bind(("pop", ETH_P_ALL))
        self.segments: list[Segment] = []

    def read(self, seconds: float) -> None:
        """Takes what comes within the time into `segments`."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                frame, control, _, _ = self._socket.recvmsg(256, 64)
            except TimeoutError:
                return
            segment = parse(frame, control)
            if segment is not None:
                self.segments.append(segment)

    def close(self) -> None:
        self._socket.close()


def parse(frame: bytes, control) -> Segment | None:
    ethertype, ip = frame[12:14], frame[14:]
    if ethertype == b"\x08\x00" and ip[9] == 6:
        client, tcp = socket.inet_ntop(socket.AF_INET, ip[16:20]), ip[(ip[0] & 15) * 4:]
    elif ethertype == b"\x86\xdd" and ip[6] == 6:
        client, tcp = socket.inet_ntop(socket.AF_INET6, ip[24:40]), ip[40:]
    else:
        return None
    at = next(struct.unpack("qq", data[:16]) for _, kind, data in control if kind == SO_TIMESTAMPNS)
    _, port, sequence = struct.unpack(">HHI", tcp[:8])
    return Segment(at[0] + at[1] / 1e9, client, port, tcp[13], sequence)


def most_in_a_second(times: list[float]) -> int:
    """The largest number of events in any window of one second."""
    times = sorted(times)
    most, first = 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most

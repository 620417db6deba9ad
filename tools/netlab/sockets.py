"""Sockets that live in a lab node's network namespace, and a small HTTP client on them.

setns() acts on one thread: a short-lived thread enters the namespace and makes the socket, which stays there for good.
"""
from __future__ import annotations

import ctypes
import http.client
import json
import os
import socket
import threading
import time
from dataclasses import dataclass, field

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def run_in(namespace: str, function):
    """Runs a function in a thread that is in the namespace; its result, or its exception."""
    result: list = []

    def body() -> None:
        try:
            descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                    code = ctypes.get_errno()
                    raise OSError(code, f"entering namespace {namespace}: {os.strerror(code)}")
            finally:
                os.close(descriptor)
            result.append((function(), None))
        except BaseException as error:  # handed to the caller
            result.append((None, error))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    value, error = result[0]
    if error is not None:
        raise error
    return value


def open_socket(namespace: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    return run_in(namespace, lambda: socket.socket(family, kind, protocol))


@dataclass
class Response:
    status: int
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case
    body: bytes = b""
    connect_s: float = 0.0  # SYN to established
    total_s: float = 0.0
    local: tuple[str, int] = ("", 0)

    @property
    def site(self) -> str:
        return self.headers.get("x-site", "")

    @property
    def backend(self) -> str:
        return self.headers.get("x-backend", "")


def connect(namespace: str, address: str, port: int, source: tuple[str, int] | None, timeout: float) -> socket.socket:
    """A TCP connection. Raises TimeoutError for silence, ConnectionRefusedError for a reset, OSError for the rest."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = open_socket(namespace, family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        if source:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(source)
        sock.connect((address, port))
        return sock
    except BaseException:
        sock.close()
        raise


def request(namespace: str, address: str, port: int, path: str = "/", method: str = "GET", body: bytes = b"",
            source: tuple[str, int] | None = None, timeout: float = 5.0) -> Response:
    """One HTTP/1.1 request with `Connection: close`; the answer is read to its end."""
    begin = time.monotonic()
    sock = connect(namespace, address, port, source, timeout)
    with sock:
        connected = time.monotonic()
        local = sock.getsockname()[:2]
        host = f"[{address}]" if ":" in address else address
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        if body or method == "POST":
            head += f"Content-Length: {len(body)}\r\n"
        sock.sendall(head.encode() + b"\r\n" + body)
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
    top, _, rest = data.partition(b"\r\n\r\n")
    lines = top.decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/1."):
        raise OSError(f"{address} port {port}: no HTTP answer but {data[:40]!r}")
    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
    end = time.monotonic()
    return Response(int(lines[0].split()[1]), headers, rest, connected - begin, end - begin, local)


def unix_json(path: os.PathLike[str], method: str, target: str, body, timeout: float):
    """One HTTP request over a Unix socket, JSON both ways."""
    connection = http.client.HTTPConnection("localhost", timeout=timeout)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.sock.settimeout(timeout)
        connection.sock.connect(str(path))
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request(method, target, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if answer.status // 100 != 2:
        raise RuntimeError(f"{method} {target}: {answer.status}: {text.strip()}")
    return json.loads(text) if text.strip() else None

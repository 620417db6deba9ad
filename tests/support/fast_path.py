"""Drives a real detour-dataplane: starts it in a namespace, speaks its control channel, builds plans.

Needs dataplane_pb2 (made by the build) on PYTHONPATH, and DETOUR_DATAPLANE, the program's path.
"""

import os
import select
import socket
import struct
import subprocess
import time

import dataplane_pb2 as wire

DEADLINE_SECONDS = 20.0
ENCAP = {"ipip": 0, "gue": 1, "gre": 2}
STRANDED = {"reset": 0, "rehash": 1, "keep": 2}
TCP, UDP = 6, 17


class Process:
    """One detour-dataplane. `folder` holds its state, its socket and its log."""

    def __init__(self, namespace, folder, *arguments):
        self.socket_path = str(folder / "dataplane.sock")
        self._log = open(folder / "dataplane.log", "ab")
        command = ["ip", "netns", "exec", namespace, os.environ["DETOUR_DATAPLANE"], "--no-huge",
                   "--state-dir", str(folder / "state"), "--socket", self.socket_path,
                   "--flows-per-worker", "16384", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log)
        self.ready = self._wait_until_ready()

    def _wait_until_ready(self):
        until = time.monotonic() + DEADLINE_SECONDS
        text = b""
        while b"\n" not in text:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                self.kill()
                raise TimeoutError("detour-dataplane did not become ready")
            chunk = os.read(self._process.stdout.fileno(), 4096)
            if not chunk:
                self._process.wait()
                with open(self._log.name, errors="replace") as log:
                    raise RuntimeError(f"detour-dataplane ended with {self._process.returncode}: {log.read()[-2000:]}")
            text += chunk
        return text.decode().strip()

    def kill(self):
        """kill -9."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def stop(self):
        """A clean stop; returns the exit code."""
        self._process.terminate()
        code = self._process.wait(timeout=DEADLINE_SECONDS)
        self._process.stdout.close()
        self._log.close()
        return code

    @property
    def alive(self):
        return self._process.poll() is None


class Failure(Exception):
    def __init__(self, failure):
        super().__init__(f"{failure.doing}: {failure.what}")
        self.code = failure.code


class Control:
    """A control channel: one call, one reply."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(DEADLINE_SECONDS)
        self._socket.connect(path)
        self._id = 0

    def call(self, **body):
        self._id += 1
        request = wire.Request(id=self._id, **body)
        data = request.SerializeToString()
        self._socket.sendall(struct.pack(">I", len(data)) + data)
        (length,) = struct.unpack(">I", self._read(4))
        reply = wire.Reply.FromString(self._read(length))
        assert reply.id == self._id
        if reply.HasField("failure"):
            raise Failure(reply.failure)
        return getattr(reply, reply.WhichOneof("body"))

    def _read(self, count):
        data = b""
        while len(data) < count:
            chunk = self._socket.recv(count - len(data))
            if not chunk:
                raise ConnectionError("the control channel was closed")
            data += chunk
        return data

    def hello(self):
        return self.call(hello=wire.Hello(version="test"))

    def apply(self, plan):
        return self.call(apply_plan=wire.ApplyPlan(plan=plan))

    def set_sites(self, *switches):
        return self.call(set_switches=wire.SetSwitches(sites=switches))

    def set_backends(self, *switches):
        return self.call(set_switches=wire.SetSwitches(backends=switches))

    def stats(self):
        return self.call(get_stats=wire.GetStats())

    def state(self):
        return self.call(get_state=wire.GetState())

    def close(self):
        self._socket.close()


def site_switch(site, sequence, admit=65535, admit_mid=None, keep=True):
    mid = admit if admit_mid is None else admit_mid
    return wire.SiteSwitch(site=site, sequence=sequence, admit=admit, admit_mid=mid, keep=keep)


def address_bytes(text):
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


class PlanBuilder:
    """A plan in few words: sites, pools with VIPs and backends; one next hop."""

    def __init__(self, source_mac, next_hop_mac, seed=b"0123456789abcdef", mtu=1500):
        self.plan = wire.Plan(seed=seed, source_v4=address_bytes("192.0.2.1"),
                              source_v6=address_bytes("2001:db8::1"), resets_per_second=2000, icmp_per_second=1000)
        self.plan.next_hops.add(id=0, port=0, source=mac_bytes(source_mac), destination=mac_bytes(next_hop_mac),
                                mtu=mtu, resolved=True)
        self._vips = 0
        self._backends = 0

    def site(self, name, verdict=0):
        self.plan.sites.add(id=len(self.plan.sites), name=name, key=name, verdict=verdict)
        return self

    def pool(self, name, vips, backends, encap="gue", stranded="reset"):
        """`vips`: (address, port, protocol) each; `backends`: a list of addresses per site, in the sites' order."""
        pool = self.plan.pools.add(id=len(self.plan.pools), name=name, encap=ENCAP[encap], hash=0,
                                   stranded=STRANDED[stranded], max_backends=16)
        for address, port, protocol in vips:
            pool.vips.add(id=self._vips, address=address_bytes(address), port=port, protocol=protocol)
            self._vips += 1
        for site, addresses in enumerate(backends):
            part = pool.sites.add(site=site, weight=100, tier=0)
            for address in addresses:
                part.backends.add(id=self._backends, address=address_bytes(address), weight=100, next_hop=0)
                self._backends += 1
        return self

    def generation(self, number):
        self.plan.generation = number
        return self.plan

"""Hosts in the guest, each a network namespace of Debian's own kernel, and the cable to the NIC under test.

    client ── router ═══ NIC under test (vfio-pci: detour-dataplane), the guest itself is the PoP host
                 ├── pangyo    backend, decapsulates by the kernel's ipip and fou
                 └── anyang    backend

The cable is a hub of the emulator: the router holds its other end, a NIC that the kernel drives.
"""
import contextlib
import ctypes
import os
import socket
import subprocess
import time

VIPS = {"ipip": "203.0.113.10", "gue": "203.0.113.20", "v6": "2001:db8:f::10"}
SITES = {"pangyo": ("10.1.0.11", "10.1.0.1"), "anyang": ("10.2.0.11", "10.2.0.1")}
HOST, ROUTER = "10.0.0.2", "10.0.0.1"
HOST6, ROUTER6 = "2001:db8:8::2", "2001:db8:8::1"
CLIENT, CLIENT_ROUTER = "10.9.0.9", "10.9.0.1"
CLIENT6, CLIENT_ROUTER6 = "2001:db8:9::9", "2001:db8:9::1"
# A tagged network on the same cable: the PoP's address in it, and the router's.
VLAN, VLAN_HOST, VLAN_ROUTER = 100, "10.0.100.2", "10.0.100.1"
ECHO_PORT = 7
PCI = "/sys/bus/pci"
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def batch(namespace: str | None, *lines: str) -> None:
    """Many `ip` commands by one process: starting one is slow here."""
    where = ["-n", namespace] if namespace else []
    text = "\n".join(lines) + "\n"
    done = subprocess.run(["ip", *where, "-batch", "-"], input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"ip in {namespace}: {done.stderr.strip()}\n{text}")


@contextlib.contextmanager
def inside(namespace: str | None):
    """The calling thread is in `namespace` meanwhile; a socket that it opens stays there."""
    if namespace is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if _libc.setns(there, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"entering {namespace}")
        yield
    finally:
        _libc.setns(home, CLONE_NEWNET)
        os.close(home)
        os.close(there)


def sysctl(namespace: str | None, **values) -> None:
    """Names with `__` for `/`: ipv4__ip_forward=1."""
    with inside(namespace):
        for name, value in values.items():
            with open("/proc/sys/net/" + name.replace("__", "/"), "w") as file:
                file.write(str(value))


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def wait_for(what: str, condition, seconds: float = 40.0):
    """What `condition` returned; it is asked every 50 ms."""
    until = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


# ---- devices

def load_modules(release_folder: str) -> None:
    names = ["vfio-pci", "virtio_net", "veth", "tun", "sit", "ipip", "fou", "ip_gre", "8021q"]
    for name in names:
        run("modprobe", "-d", release_folder, name)


def give_to_vfio(address: str) -> None:
    device = f"{PCI}/devices/{address}"
    write(f"{device}/driver_override", "vfio-pci")
    if os.path.exists(f"{device}/driver"):
        write(f"{device}/driver/unbind", address)
    write(f"{PCI}/drivers_probe", address)
    driver = os.path.basename(os.readlink(f"{device}/driver"))
    assert driver == "vfio-pci", f"{address} is driven by {driver}"


def interface_of(address: str) -> str:
    """Of a virtio NIC that the kernel drives."""
    device = f"{PCI}/devices/{address}"
    return wait_for(f"an interface of {address}",
                    lambda: next((n for v in os.listdir(device) if v.startswith("virtio")
                                  for n in os.listdir(f"{device}/{v}/net")), None))


# ---- hosts

def build_hosts() -> None:
    for name in ("router", "client", *SITES):
        run("ip", "netns", "add", name)
    sysctl("router", ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
    batch("router", "link set lo up")
    join("client", (CLIENT, CLIENT_ROUTER), (CLIENT6, CLIENT_ROUTER6))
    for site, addresses in SITES.items():
        join(site, addresses, None)
        build_backend(site, addresses[0])


def join(name: str, v4, v6) -> None:
    """A cable from the router to `name`, whose default route it is."""
    batch("router", f"link add {name} type veth peer name eth0 netns {name}")
    sysctl("router", **quiet(name))
    sysctl(name, **quiet("eth0"))
    batch("router", f"addr add {v4[1]}/24 dev {name}", f"link set {name} up",
          *([f"addr add {v6[1]}/64 dev {name}"] if v6 else []))
    batch(name, "link set lo up", f"addr add {v4[0]}/24 dev eth0", "link set eth0 up", f"route add default via {v4[1]}",
          *([f"addr add {v6[0]}/64 dev eth0", f"route add default via {v6[1]}"] if v6 else []))


def quiet(interface: str) -> dict:
    return {f"ipv6__conf__{interface}__accept_dad": 0, f"ipv6__conf__{interface}__accept_ra": 0,
            f"ipv4__conf__{interface}__rp_filter": 0}


def build_backend(name: str, address: str) -> None:
    """As docs/backends.md says of kernel tunnels: nothing of ours is here."""
    sysctl(name, ipv4__conf__all__arp_ignore=1, ipv4__conf__all__arp_announce=2, ipv4__conf__all__rp_filter=0,
           ipv4__conf__default__rp_filter=0)
    batch(name, *(f"addr add {vip} dev lo{' nodad' if ':' in vip else ''}" for vip in VIPS.values()),
          f"link add detour4 type ipip local {address}", "link set detour4 up",
          f"link add detour6 type sit mode ip6ip local {address}", "link set detour6 up", "fou add port 6080 gue")
    sysctl(name, ipv4__conf__detour4__rp_filter=0)
    # An IPv6 client's answer leaves by the router, which a site would have by its internet link.
    gateway = SITES[name][1]
    net = "1" if name == "pangyo" else "2"
    sysctl(name, ipv6__conf__eth0__accept_dad=0)
    batch("router", f"addr add 2001:db8:{net}::1/64 dev {name}")
    batch(name, f"addr add 2001:db8:{net}::11/64 dev eth0", f"route add default via 2001:db8:{net}::1",
          f"route replace default via {gateway} advmss 1412")


@contextlib.contextmanager
def tagged_route(cable: "Cable", destination: str):
    """Meanwhile the PoP's route to `destination` leaves by a VLAN interface; the router has its other end. Yields a
    function: how many bytes the router has had from there."""
    batch("router", f"link add link {cable.interface} name tagged type vlan id {VLAN}")
    sysctl("router", **quiet("tagged"))
    batch("router", f"addr add {VLAN_ROUTER}/24 dev tagged", "link set tagged up")
    batch(None, f"link add link detour0 name tagged type vlan id {VLAN}")
    sysctl(None, **quiet("tagged"))
    batch(None, f"addr add {VLAN_HOST}/24 dev tagged", "link set tagged up",
          f"route add {destination} via {VLAN_ROUTER} dev tagged")

    def received() -> int:
        with inside("router"), open("/proc/net/dev") as file:
            return next(int(line.split()[1]) for line in file if line.split()[0] == "tagged:")
    try:
        yield received
    finally:
        batch(None, "link del tagged")
        batch("router", "link del tagged")


class Cable:
    """The router's end, with the addresses of the moment."""

    def __init__(self, interface: str):
        self.interface = interface
        batch(None, f"link set {interface} netns router")
        sysctl("router", **quiet(interface))

    def connect(self) -> None:
        batch("router", f"addr add {ROUTER}/24 dev {self.interface}", f"addr add {ROUTER6}/64 dev {self.interface}",
              f"link set {self.interface} up",
              *(f"route add {vip} via {HOST6 if ':' in vip else HOST}" for vip in VIPS.values()))

    def disconnect(self) -> None:
        batch("router", f"link set {self.interface} down", f"addr flush dev {self.interface}")


def connect(namespace: str | None, address: str, port: int, seconds: float = 5.0) -> socket.socket:
    with inside(namespace):
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.settimeout(seconds)
    try:
        made.connect((address, port))
    except OSError:
        made.close()
        raise
    return made

"""Carries a Topology out: network namespaces, links, addresses, routes, nftables; and removes it all again.

Everything of the lab NAME is found by the prefix `dt-NAME-` (a lab's name has no '-', so no prefix is another's), which
is why a clean-up needs no record of what was made.
"""
from __future__ import annotations

import ctypes
import os
import subprocess
import time

from . import processes
from .sockets import run_in
from .topology import Link, Topology

_EVERYWHERE = """
for d in /proc/sys/net/ipv4/conf/*; do echo 0 > $d/rp_filter; echo 1 > $d/arp_ignore; echo 2 > $d/arp_announce; done
for d in /proc/sys/net/ipv6/conf/*; do echo 0 > $d/accept_dad; echo 0 > $d/accept_ra; echo 0 > $d/autoconf; done
"""
_BY_KIND = {
    "router": "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1\n",
    "gateway": "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1\n",
    "client": ("sysctl -qw net.ipv4.ip_nonlocal_bind=1 net.ipv6.ip_nonlocal_bind=1 "
               "net.ipv4.ip_local_port_range='61000 65500'\n"),
}


def prefix(lab: str) -> str:
    return f"dt-{lab}-"


def namespace(lab: str, node: str) -> str:
    return prefix(lab) + node


def existing(lab: str) -> list[str]:
    """The lab's namespaces that exist now."""
    try:
        return sorted(n for n in os.listdir("/run/netns") if n.startswith(prefix(lab)))
    except FileNotFoundError:
        return []


def run(command: list[str], text: str, what: str) -> None:
    """Runs a tool with `text` on its input. An error says what was being done and what the tool answered."""
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{what}: {(done.stderr or done.stdout).strip() or f'status {done.returncode}'}")


def create(lab: str, topology: Topology) -> None:
    """Makes every namespace and link, then configures each node. What was made before a failure stays: destroy()."""
    lines = [f"netns add {namespace(lab, node)}" for node in topology.nodes]
    for link in topology.links.values():
        lines.append(
            f"link add name {link.a_dev} address {link.a_mac} netns {namespace(lab, link.a)} type veth "
            f"peer name {link.b_dev} address {link.b_mac} netns {namespace(lab, link.b)}")
    run(["ip", "-batch", "-"], "\n".join(lines) + "\n", "making namespaces and links")
    for name, node in topology.nodes.items():
        quiet = "".join(f"ethtool -K {d} tx off txvlan off rxvlan off gro off > /dev/null\n" for d in node.devices)
        batch = "\n".join(["link set lo up", *node.batch])
        nft = "\n".join([*node.nft, *link_tables(topology, name)])
        script = f"set -e\n{_EVERYWHERE}{_BY_KIND.get(node.kind, '')}{quiet}ip -batch - <<'END'\n{batch}\nEND\n"
        script += f"nft -f - <<'END'\n{nft}\nEND\n" if nft else ""
        run(["nsenter", f"--net=/run/netns/{namespace(lab, name)}", "sh"], script, f"configuring {name}")


def link_tables(topology: Topology, node: str) -> list[str]:
    """Empty nftables chains at the `a` end of each link, where cuts and losses are put."""
    lines = []
    for link in topology.links.values():
        if link.a == node and cuttable(link):
            for hook in ("ingress", "egress"):
                lines.append(f"add chain netdev lab {hook}_{link.a_dev} "
                             f"{{ type filter hook {hook} device {link.a_dev} priority -500; policy accept; }}")
    return ["add table netdev lab", *lines] if lines else []


def cuttable(link: Link) -> bool:
    """The two halves of a client's link belong to the relay, which has losses of its own."""
    return "wan" not in (link.a, link.b)


def link_rules(link: Link, dark: bool, loss: float, direction: str = "both") -> list[str]:
    """One transaction that gives a link its state: cut, lossy or sound; lossy also in one direction alone, "to" the `a`
    end or "from" it."""
    lines = []
    for hook, way in (("ingress", "to"), ("egress", "from")):
        chain = f"netdev lab {hook}_{link.a_dev}"
        lines.append(f"flush chain {chain}")
        hit = loss > 0 and direction in ("both", way)
        if dark or (hit and loss >= 100):
            lines.append(f"add rule {chain} drop")
        elif hit:
            lines.append(f"add rule {chain} numgen random mod 10000 < {round(loss * 100)} drop")
    return lines


def apply_rules(lab: str, node: str, lines: list[str]) -> tuple[int, int]:
    """Commits nftables lines in a node as one transaction, by libnftables and without a new process, so that a cut is
    one quick step. Returns CLOCK_REALTIME just before and just after, in ns."""
    text = "\n".join(lines).encode() + b"\n"

    def commit() -> tuple[int, int]:
        lib = ctypes.CDLL("libnftables.so.1")
        lib.nft_ctx_new.restype = ctypes.c_void_p
        lib.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        context = ctypes.c_void_p(lib.nft_ctx_new(ctypes.c_uint32(0)))
        try:
            lib.nft_ctx_buffer_error(context)
            before = time.time_ns()
            status = lib.nft_run_cmd_from_buffer(context, text)
            after = time.time_ns()
            if status != 0:
                message = lib.nft_ctx_get_error_buffer(context).decode()
                raise RuntimeError(f"nftables in {node}: {message.strip()}")
            return before, after
        finally:
            lib.nft_ctx_free(context)

    return run_in(namespace(lab, node), commit)


def destroy(lab: str) -> None:
    """Ends every process in the lab's namespaces and deletes them, and the links with them. Repeats until nothing is
    left, because a command that was under way when its lab died may still be making things."""
    for _ in range(20):
        names = existing(lab)
        if not names:
            return
        processes.end(processes.in_namespaces(names))
        subprocess.run(["ip", "-force", "-batch", "-"], input="".join(f"netns del {n}\n" for n in names), text=True,
                       capture_output=True)
        time.sleep(0.05)
    raise RuntimeError(f"namespaces {existing(lab)} can't be deleted")

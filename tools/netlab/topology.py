"""What the lab looks like: nodes, links, addresses, routes. Pure data, nothing is created here.

    client1 … clientN ── wan (relay: delay, loss) ── internet ──────────────┐
                                                       │ eth0               │ one link per site
                                                      pop                   │
                                                       │ eth1               │
                                                    backbone ── SITE router ┘ ── SITE-1, SITE-2 … (nginx, VIP on lo)
                                                  the last SITE router ── SITE-gw ── SITE-1, SITE-2 … (plain nginx)

Addresses (k: client 1…, i: site 1 … 7, 10 …, since 10.8 and 10.9 are the PoP's and the clients'; j: backend 1…):

    clients      198.18.k.0/24            2001:db8:c:k::/64     every address of these is the client's own
    client 1     198.19.0.0/16            2001:db8:8000::/33    too: sources in many prefixes
    pop eth0     10.8.0.2                 2001:db8:8:0::2       VIP traffic arrives here
    pop eth1     10.8.1.2                 2001:db8:8:1::2       tunnels and probes leave here
    site router  10.i.0.1                 2001:db8:1:i::1
    backends     10.i.0.(10+j)            2001:db8:1:i::(10+j)  the gateway is 10.i.0.11
    servers      10.i.1.(10+j)            2001:db8:2:i::(10+j)  behind the gateway
    VIPs         203.0.113.10             2001:db8:f::10
"""
from __future__ import annotations

from dataclasses import dataclass, field

VIP4 = "203.0.113.10"
VIP6 = "2001:db8:f::10"
VIP_NET4 = "203.0.113.0/24"
VIP_NET6 = "2001:db8:f::/64"
WIDE4, WIDE6 = "198.19.0.0/16", "2001:db8:8000::/33"  # of the first client
TCP_PORTS = (80, 443)
UDP_PORT = 7
SITE_NUMBERS = [n for n in range(1, 203) if n not in (8, 9)]
DEFAULT_SITES = ("pangyo", "anyang", "chuncheon")


@dataclass
class Node:
    """One host. `batch` are lines for `ip -batch`, `nft` is a ruleset, `kind` decides sysctls and services."""

    name: str
    kind: str  # client | wan | router | pop | backend | gateway | server
    site: str = ""
    v4: str = ""  # the host's own address, where it has one
    v6: str = ""
    devices: list[str] = field(default_factory=list)
    batch: list[str] = field(default_factory=list)
    nft: list[str] = field(default_factory=list)


@dataclass
class Link:
    """A veth pair. Cut and loss are applied at the `a` end, which is always a router."""

    name: str
    a: str
    a_dev: str
    b: str
    b_dev: str
    a_mac: str
    b_mac: str


class Topology:
    """All nodes and links of one lab, made from its options. Order of `nodes` is the order of creation."""

    def __init__(self, sites: list[str], backends: int, clients: int, mtu: int):
        if not 1 <= len(sites) <= 200 or len(set(sites)) != len(sites):
            raise ValueError("sites: from 1 to 200 different names are needed")
        for name in sites:
            if not name.replace("-", "").isalnum() or len(name) > 12 or name in ("pop", "internet", "backbone"):
                raise ValueError(f"site name {name!r}: letters, digits and '-', at most 12, no node's own name")
        if not 1 <= backends <= 40 or not 1 <= clients <= 40:
            raise ValueError("backends and clients: from 1 to 40")
        self.sites, self.backends, self.clients, self.mtu = list(sites), backends, clients, mtu
        self.nodes: dict[str, Node] = {}
        self.links: dict[str, Link] = {}
        self._build()

    # ---- what others ask ----

    def gateway_site(self) -> str:
        """The site whose servers are unmodified and sit behind a gateway: the last one, if there are two or more."""
        return self.sites[-1] if len(self.sites) > 1 else ""

    def detour_backends(self, site: str) -> list[Node]:
        """The hosts that the load balancer tunnels to: they decapsulate."""
        return [n for n in self.nodes.values() if n.site == site and n.kind in ("backend", "gateway")]

    def web_servers(self, site: str = "") -> list[Node]:
        """The hosts that run nginx."""
        return [n for n in self.nodes.values() if n.kind in ("backend", "server") and site in ("", n.site)]

    # ---- construction ----

    def _build(self) -> None:
        self._node("wan", "wan")
        self._node("internet", "router")
        self._node("backbone", "router")
        self._build_pop()
        for k in range(1, self.clients + 1):
            self._build_client(k)
        for i, site in zip(SITE_NUMBERS, self.sites):
            self._build_site(i, site)

    def _node(self, name: str, kind: str, **rest: str) -> Node:
        node = Node(name, kind, **rest)
        self.nodes[name] = node
        return node

    def _link(self, name: str, a: str, a_dev: str, b: str, b_dev: str) -> Link:
        number = len(self.links) + 1
        mac = f"02:00:00:{number >> 8:02x}:{number & 255:02x}:0"
        link = Link(name, a, a_dev, b, b_dev, mac + "a", mac + "b")
        self.links[name] = link
        for node, dev in ((a, a_dev), (b, b_dev)):
            self.nodes[node].devices.append(dev)
            self.nodes[node].batch.append(f"link set {dev} mtu {self.mtu} up")
        return link

    def _transit(self, link: Link, v4: str, v6: str, learn: bool = False) -> None:
        """Addresses .1/.2 of a /30 and ::1/::2 of a /64 on a link; permanent neighbours unless `learn`."""
        a, b = self.nodes[link.a].batch, self.nodes[link.b].batch
        ends = ((a, link.a_dev, "1", "2", link.b_mac), (b, link.b_dev, "2", "1", link.a_mac))
        for batch, dev, own, other, mac in ends:
            batch.append(f"addr add {v4}{own}/30 dev {dev}")
            batch.append(f"addr add {v6}{own}/64 dev {dev} nodad")
            if not learn:
                self._neighbour(batch, dev, mac, v4 + other, v6 + other)

    @staticmethod
    def _neighbour(batch: list[str], dev: str, mac: str, *addresses: str) -> None:
        for address in addresses:
            batch.append(f"neigh replace {address} lladdr {mac} dev {dev} nud permanent")

    def _build_pop(self) -> None:
        pop = self._node("pop", "pop", v4="10.8.0.2", v6="2001:db8:8:0::2")
        outside = self._link("pop-internet", "internet", "pop", "pop", "eth0")
        inside = self._link("pop-backbone", "backbone", "pop", "pop", "eth1")
        self._transit(outside, "10.8.0.", "2001:db8:8:0::")
        self._transit(inside, "10.8.1.", "2001:db8:8:1::", learn=True)
        # The kernel answers for the VIP's address wherever no VIP's protocol and port is meant (ping, ssh).
        pop.batch += [f"addr add {VIP4}/32 dev lo", f"addr add {VIP6}/128 dev lo nodad"]
        pop.batch += ["route add default via 10.8.0.1", "route add default via 2001:db8:8:0::1"]
        self.nodes["internet"].batch += [
            f"route add {VIP_NET4} via 10.8.0.2", f"route add {VIP_NET6} via 2001:db8:8:0::2"]

    def _build_client(self, k: int) -> None:
        name = "client" if self.clients == 1 else f"client{k}"
        client = self._node(name, "client", v4=f"198.18.{k}.1", v6=f"2001:db8:c:{k:x}::1")
        near = self._link(f"{name}-wan", "wan", f"c{k}", name, "eth0")
        far = self._link(f"wan-{name}", "internet", f"c{k}", "wan", f"i{k}")
        # The relay joins the two links into one wire, so that the neighbours are the far ends' addresses.
        end = Link("", "internet", f"c{k}", name, "eth0", far.a_mac, near.b_mac)
        self._transit(end, f"10.9.{k}.", f"2001:db8:9:{k:x}::")
        client.batch += [
            f"addr add {client.v4}/32 dev lo", f"addr add {client.v6}/128 dev lo nodad",
            f"route add local 198.18.{k}.0/24 dev lo", f"route add local 2001:db8:c:{k:x}::/64 dev lo",
            *(f"route add local {wide} dev lo" for wide in (WIDE4, WIDE6) if k == 1),
            f"route add default via 10.9.{k}.1 src {client.v4}",
            f"route add default via 2001:db8:9:{k:x}::1 src {client.v6}"]
        self.nodes["internet"].batch += [
            f"route add 198.18.{k}.0/24 via 10.9.{k}.2", f"route add 2001:db8:c:{k:x}::/64 via 2001:db8:9:{k:x}::2"]
        if k == 1:
            self.nodes["internet"].batch += [
                f"route add {WIDE4} via 10.9.{k}.2", f"route add {WIDE6} via 2001:db8:9:{k:x}::2"]

    def _build_site(self, i: int, site: str) -> None:
        router = self._node(site, "router", site=site, v4=f"10.{i}.0.1", v6=f"2001:db8:1:{i:x}::1")
        # The site's router is the `a` end: that is where a power cut drops everything.
        backbone = self._link(f"{site}-backbone", site, "backbone", "backbone", site)
        internet = self._link(f"{site}-internet", site, "internet", "internet", site)
        self._transit(backbone, f"10.254.{i}.", f"2001:db8:fe:{i:x}::")
        self._transit(internet, f"10.253.{i}.", f"2001:db8:fd:{i:x}::")
        router.batch += [
            f"addr add {router.v4}/32 dev lo", f"addr add {router.v6}/128 dev lo nodad",
            f"route add 10.8.1.0/30 via 10.254.{i}.2", f"route add 2001:db8:8:1::/64 via 2001:db8:fe:{i:x}::2",
            f"route add default via 10.253.{i}.2", f"route add default via 2001:db8:fd:{i:x}::2"]
        lans = ((f"10.{i}.0.0/23", f"2001:db8:1:{i:x}::/64"), ("", f"2001:db8:2:{i:x}::/64"))
        for name, via4, via6 in (("backbone", f"10.254.{i}.1", f"2001:db8:fe:{i:x}::1"),
                                 ("internet", f"10.253.{i}.1", f"2001:db8:fd:{i:x}::1")):
            for v4, v6 in lans:
                self.nodes[name].batch += [f"route add {v4} via {via4}"] if v4 else []
                self.nodes[name].batch.append(f"route add {v6} via {via6}")
        self.nodes["pop"].batch += [
            f"route add 10.{i}.0.0/23 via 10.8.1.1", f"route add 10.254.{i}.0/30 via 10.8.1.1",
            f"route add 2001:db8:1:{i:x}::/64 via 2001:db8:8:1::1",
            f"route add 2001:db8:2:{i:x}::/64 via 2001:db8:8:1::1",
            f"route add 2001:db8:fe:{i:x}::/64 via 2001:db8:8:1::1"]
        if site == self.gateway_site():
            self._build_gateway(i, site)
        else:
            for j in range(1, self.backends + 1):
                self._stub(site, f"{site}-{j}", f"b{j}", "backend", site, (f"10.{i}.0.", f"2001:db8:1:{i:x}::"), 10 + j)

    def _build_gateway(self, i: int, site: str) -> None:
        gateway = self._stub(site, f"{site}-gw", "gw", "gateway", site, (f"10.{i}.0.", f"2001:db8:1:{i:x}::"), 11)
        self.nodes[site].batch += [f"route add 10.{i}.1.0/24 via {gateway.v4}",
                                   f"route add 2001:db8:2:{i:x}::/64 via {gateway.v6}"]
        lan = (f"10.{i}.1.", f"2001:db8:2:{i:x}::")
        servers = [
            self._stub(f"{site}-gw", f"{site}-{j}", f"s{j}", "server", site, lan, 10 + j)
            for j in range(1, self.backends + 1)]
        for j in range(1, self.backends + 1):  # what masquerade takes as the source
            gateway.batch += [f"addr add 10.{i}.1.1/32 dev s{j}", f"addr add 2001:db8:2:{i:x}::1/128 dev s{j} nodad"]
        gateway.nft = gateway_nat(gateway, servers)

    def _stub(self, parent: str, name: str, parent_dev: str, kind: str, site: str, prefix: tuple[str, str],
              number: int) -> Node:
        """A host with one link to `parent`, whose address in the prefix is 1."""
        (p4, p6) = prefix
        node = self._node(name, kind, site=site, v4=f"{p4}{number}", v6=f"{p6}{number}")
        link = self._link(name, parent, parent_dev, name, "eth0")
        node.batch += [f"addr add {node.v4}/32 dev eth0", f"addr add {node.v6}/128 dev eth0 nodad"]
        self._neighbour(node.batch, "eth0", link.a_mac, p4 + "1", p6 + "1")
        node.batch += [f"route add default via {p4}1 dev eth0 onlink", f"route add default via {p6}1 dev eth0 onlink"]
        if kind == "backend":
            node.batch += [f"addr add {VIP4}/32 dev lo", f"addr add {VIP6}/128 dev lo nodad"]
        self._neighbour(self.nodes[parent].batch, parent_dev, link.b_mac, node.v4, node.v6)
        self.nodes[parent].batch += [
            f"route add {node.v4}/32 dev {parent_dev}", f"route add {node.v6}/128 dev {parent_dev}"]
        return node


def gateway_nat(gateway: Node, servers: list[Node]) -> list[str]:
    """The gateway's nftables: what was decapsulated for a VIP, and the health checks sent to the gateway itself, go to
    unmodified servers; answers come back through the gateway because the source is rewritten too."""
    lines: list[str] = []
    ports = ", ".join(map(str, TCP_PORTS))
    for family, vip, own, address in (("ip", VIP4, gateway.v4, "v4"), ("ip6", VIP6, gateway.v6, "v6")):
        def choose(port: str) -> str:
            choices = ", ".join(f"{n} : {getattr(s, address)}" for n, s in enumerate(servers))
            return f"dnat to jhash {family} saddr . {port} mod {len(servers)} map {{ {choices} }}"
        lines += [
            f"table {family} gateway {{",
            " chain pre { type nat hook prerouting priority dstnat; policy accept;",
            f"  iifname eth0 {family} daddr {{ {vip}, {own} }} tcp dport {{ {ports} }} {choose('tcp sport')}",
            f"  iifname eth0 {family} daddr {{ {vip}, {own} }} udp dport {UDP_PORT} {choose('udp sport')}",
            " }",
            " chain post { type nat hook postrouting priority srcnat; policy accept;",
            "  oifname != eth0 ct status dnat masquerade",
            " }",
            # A packet of a connection that nobody knows any more must not be routed back to where it came from.
            " chain stray { type filter hook forward priority filter; policy accept;",
            f"  iifname eth0 {family} daddr {vip} drop",
            " }",
            "}"]
    return lines

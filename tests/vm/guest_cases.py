"""What has to hold on each kind of NIC. A case raises when it does not; they run in this order."""
import json
import subprocess

from guest_network import (CLIENT, CLIENT6, ECHO_PORT, HOST, HOST6, ROUTER, ROUTER6, SITES, VIPS, batch, connect, inside,
                           tagged_route, wait_for)

CONNECTIONS = 16
FLOWS = 32


def ping(namespace, address, count=3):
    """The first packets of a pair of hosts may be lost while they look for one another; none after that."""
    with inside(namespace):
        wait_for(f"a first answer of {address}", lambda: subprocess.run(
            ["ping", "-n", "-q", "-c", "1", "-W", "1", address], capture_output=True).returncode == 0)
    with inside(namespace):
        done = subprocess.run(["ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", "5", address],
                              capture_output=True, text=True)
    assert done.returncode == 0 and f"{count} received" in done.stdout, done.stdout + done.stderr


def receive(sock, count):
    data = b""
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        assert chunk, f"closed after {len(data)} of {count} bytes"
        data += chunk
    return data


def banner(sock):
    """What the server says first: its name."""
    line = b""
    while not line.endswith(b"\r\n"):
        line += receive(sock, 1)
    return line.strip().decode()


def exchange(sock, size):
    """There and back, in pieces that fit any socket buffer."""
    piece = bytes(range(256)) * 16
    for _ in range(size // len(piece)):
        sock.sendall(piece)
        assert receive(sock, len(piece)) == piece, "what came back is not what was sent"


def site_of_new(vip, seconds=5.0):
    sock = connect("client", vip, ECHO_PORT, seconds)
    try:
        return banner(sock)
    finally:
        sock.close()


def detour0():
    return json.loads(subprocess.run(["ip", "-j", "link", "show", "detour0"], capture_output=True, check=True).stdout)[0]


# ---- the exception path

def the_kernel_sees_an_interface_with_a_link(pop):
    wait_for("detour0 has a carrier", lambda: detour0()["operstate"] in ("UP", "UNKNOWN"))
    assert detour0()["mtu"] == 1500


def the_host_answers_pings(pop):
    for address in (HOST, HOST6):
        ping("client", address)


def the_host_pings(pop):
    for address in (ROUTER, ROUTER6, CLIENT, CLIENT6):
        ping(None, address)


def an_ssh_like_session_to_the_host_carries_data_both_ways(pop):
    sock = connect("client", HOST, 22, 20)
    assert banner(sock) == "host"
    exchange(sock, 256 * 1024)
    sock.close()


# ---- VIPs

def probes_find_both_sites_healthy(pop):
    """They leave by the exception path, and the next hops are those of the kernel's routes on it."""
    def healthy():
        try:
            rows = json.loads(pop.lbctl("sites", "--output", "json"))
        except ValueError:
            return False
        return len(rows) == len(SITES) and all(r["verdict"] == "healthy" and r["admit"] >= 1 for r in rows)
    wait_for("both sites healthy", healthy, 60)


def clients_are_served_by_both_sites(pop, vip="ipip"):
    def served():
        try:
            return site_of_new(VIPS[vip])
        except OSError:
            return None
    wait_for("a first answer", served)
    sites = set()
    for _ in range(CONNECTIONS):
        sock = connect("client", VIPS[vip], ECHO_PORT, 10)
        sites.add(banner(sock))
        exchange(sock, 16 * 1024)
        sock.close()
    assert sites == set(SITES), f"only {sites}"


def backends_decapsulate_by_ipip(pop):
    clients_are_served_by_both_sites(pop, "ipip")


def backends_decapsulate_by_fou(pop):
    clients_are_served_by_both_sites(pop, "gue")


def ipv6_clients_are_served_through_ipv4_tunnels(pop):
    clients_are_served_by_both_sites(pop, "v6")


def client_of(site):
    """A client that the fast path sent to `site`."""
    while True:
        sock = connect("client", VIPS["ipip"], ECHO_PORT, 20)
        if banner(sock) == site:
            return sock
        sock.close()


def a_backend_behind_a_vlan_gets_its_tunnels_tagged(pop):
    """The kernel's 8021q and ipip take apart what the fast path put together; probes go the same way. The flow that was
    there before goes on: its next hop changed under it."""
    address = SITES["pangyo"][0]
    held = client_of("pangyo")
    size = 64 * 1024
    with tagged_route(pop.cable, address) as received:
        def tagged():
            before = received()
            exchange(held, size)
            # Bytes, for frames may have been put together on the way there. Probes alone are some hundred.
            return received() - before >= size
        wait_for("the flow's packets carry the tag", tagged)
        probes_find_both_sites_healthy(pop)
        for vip in ("ipip", "gue", "v6"):
            clients_are_served_by_both_sites(pop, vip)

    def untagged():
        try:
            return {site_of_new(VIPS["ipip"], 2) for _ in range(CONNECTIONS)} == set(SITES)
        except OSError:
            return False
    wait_for("served without the tag again", untagged, 60)
    exchange(held, 4096)
    held.close()


def a_site_dies_and_its_clients_move(pop):
    """New clients at once; who was on the other site notices nothing."""
    held = {}
    while set(held) != set(SITES):
        sock = connect("client", VIPS["ipip"], ECHO_PORT, 10)
        name = banner(sock)
        if name in held:
            sock.close()
        else:
            held[name] = sock
    batch("router", "link set pangyo down")
    try:
        def moved():
            try:
                return all(site_of_new(VIPS[v], 1.0) == "anyang" for v in ("ipip", "gue", "v6") for _ in range(4))
            except OSError:
                return False
        wait_for("all new connections on the other site", moved, 60)
        exchange(held["anyang"], 16 * 1024)
    finally:
        batch("router", "link set pangyo up", "addr replace 2001:db8:1::1/64 dev pangyo")
        for sock in held.values():
            sock.close()
    probes_find_both_sites_healthy(pop)
    wait_for("new connections on both sites",
             lambda: {site_of_new(VIPS["ipip"], 10) for _ in range(CONNECTIONS)} == set(SITES), 60)


# ---- the link

def the_link_goes_down_and_comes_back(pop):
    held = connect("client", VIPS["ipip"], ECHO_PORT, 60)
    banner(held)
    print(f"vm: {pop.name} off", flush=True)
    wait_for("detour0 without a carrier", lambda: "NO-CARRIER" in detour0()["flags"])
    print(f"vm: {pop.name} on", flush=True)
    wait_for("detour0 with a carrier", lambda: "NO-CARRIER" not in detour0()["flags"])
    exchange(held, 4096)
    held.close()
    ping("client", HOST)
    wait_for("new clients are served", lambda: _served(VIPS["ipip"]), 60)


def _served(vip):
    try:
        return site_of_new(vip)
    except OSError:
        return None


# ---- a NIC with a queue for each worker

def both_workers_take_flows_and_each_keeps_its_own(pop):
    stray = lambda: sum(pop.metric("detour_worker_packets_total", 'reason="forwarded_mid"').values())
    before = stray()
    held = []
    for _ in range(FLOWS):
        sock = connect("client", VIPS["ipip"], ECHO_PORT, 20)
        held.append((sock, banner(sock)))
    for sock, site in held:
        exchange(sock, 8192)
        sock.sendall(b"still there")
        assert receive(sock, 11) == b"still there", site
    flows = pop.metric("detour_worker_flows", 'family="v4"')
    assert set(flows) == {"0", "1"} and min(flows.values()) >= FLOWS // 8, f"flows by worker: {flows}"
    pinned = pop.metric("detour_worker_packets_total", 'reason="forwarded_pinned"')
    assert min(pinned.get(w, 0) for w in "01") >= FLOWS, f"packets of known flows by worker: {pinned}"
    # Each packet of a flow came to the worker that knows it. In a slow machine a connection that was given up may still
    # send one; queues that don't keep flows together would make strays of every second flow.
    strays = stray() - before
    assert strays <= FLOWS // 16, f"{strays} packets came to a worker that did not know their flow"
    for sock, _ in held:
        sock.close()


def errors_about_a_flow_reach_its_backend_whichever_worker_has_them(pop):
    """The way to the client has a small MTU. The router says so to the VIP; its errors all have one source and come to
    one worker, and the flows are on both. Without them a server would send its long segments for ever."""
    batch("router", f"route add {CLIENT}/32 dev client mtu lock 1280")
    errors = lambda: sum(pop.metric("detour_worker_packets_total", 'reason="forwarded_icmp"').values())
    try:
        for number in range(FLOWS // 2):
            for site in SITES:
                batch(site, "route flush cache")
            before = errors()
            sock = connect("client", VIPS["ipip"], ECHO_PORT, 20)
            banner(sock)
            exchange(sock, 16 * 1024)
            sock.close()
            wait_for(f"an error about connection {number} in the counters", lambda: errors() > before)
    finally:
        batch("router", f"route del {CLIENT}/32 dev client")
        for site in SITES:
            batch(site, "route flush cache")
    by_worker = pop.metric("detour_worker_packets_total", 'reason="forwarded_icmp"')
    assert len([w for w, n in by_worker.items() if n]) == 1, f"errors by worker: {by_worker}"


CASES = (
    the_kernel_sees_an_interface_with_a_link,
    the_host_answers_pings,
    the_host_pings,
    an_ssh_like_session_to_the_host_carries_data_both_ways,
    probes_find_both_sites_healthy,
    backends_decapsulate_by_ipip,
    backends_decapsulate_by_fou,
    ipv6_clients_are_served_through_ipv4_tunnels,
    a_backend_behind_a_vlan_gets_its_tunnels_tagged,
    a_site_dies_and_its_clients_move,
    the_link_goes_down_and_comes_back,
)
CASES_OF_QUEUES = (
    the_host_answers_pings,
    probes_find_both_sites_healthy,
    both_workers_take_flows_and_each_keeps_its_own,
    errors_about_a_flow_reach_its_backend_whichever_worker_has_them,
    the_link_goes_down_and_comes_back,
)

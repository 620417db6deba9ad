"""What has to hold on each kind of NIC. A case raises when it does not; they run in this order."""
import json
import subprocess

from guest_network import (CLIENT, CLIENT6, ECHO_PORT, HOST, HOST6, ROUTER, ROUTER6, SITES, VIPS, batch, connect, inside,
                           wait_for)

CONNECTIONS = 16


def ping(namespace, address, count=3):
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


CASES = (
    the_kernel_sees_an_interface_with_a_link,
    the_host_answers_pings,
    the_host_pings,
    an_ssh_like_session_to_the_host_carries_data_both_ways,
    probes_find_both_sites_healthy,
    backends_decapsulate_by_ipip,
    backends_decapsulate_by_fou,
    ipv6_clients_are_served_through_ipv4_tunnels,
    a_site_dies_and_its_clients_move,
    the_link_goes_down_and_comes_back,
)

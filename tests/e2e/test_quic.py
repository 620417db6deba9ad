"""QUIC clients that change their address in the middle of a connection, with a real stack: ngtcp2's server and client.

The server is Debian's, unchanged; what it takes for random connection ids begins with the backend's server id, by a
preloaded library of twenty lines."""
import hashlib
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import lab_name
from netlab.lab import Lab
from netlab.processes import wait_for
from netlab.topology import VIP4, VIP6

PORT = 4433
SITES = ("pangyo", "anyang")  # the third one is behind a gateway, which translates TCP alone
CLIENTS = 6

# ngtcp2's server takes its connection ids, 18 bytes, from GnuTLS. The first octet says configuration 2 and the length.
SERVER_IDS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
int gnutls_rnd(int level, void* data, size_t length) {
    int (*real)(int, void*, size_t) = (int (*)(int, void*, size_t))dlsym(RTLD_NEXT, "gnutls_rnd");
    const int result = real(level, data, length);
    unsigned char* cid = data;
    if (length != 18) return result;
    cid[0] = 2 << 5 | 17;
    cid[1] = 0x5a;
    cid[2] = (unsigned char)atoi(getenv("SERVER_NUMBER"));
    return result;
}
"""


def backends(lab):
    return [node for site in SITES for node in lab.topology.detour_backends(site)]


def quic_pool(lab, hash_key):
    rows = [f'[[pool]]\nname = "quic"\nvip = ["{VIP4}:{PORT}/udp", "[{VIP6}]:{PORT}/udp"]\nhash = "{hash_key}"',
            'health = { type = "http", port = 80, path = "/healthz", timeout = "1s", fall = 5 }']
    for number, node in enumerate(backends(lab), start=1):
        rows.append(f'[[pool.backend]]\nsite = "{node.site}"\naddress = "{node.v4}"')
        if hash_key == "quic-cid":
            rows.append(f'server_id = ["2:5a{number:02x}"]')
    return "\n".join(rows) + "\n"


@pytest.fixture(scope="module")
def lab():
    with Lab(lab_name("quic"), rtt_ms=10) as running:
        folder = running.dir
        subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(folder / "ids.so"), "-ldl"],
                       input=SERVER_IDS, text=True, check=True)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"), "-days", "2", "-subj",
                        "/CN=quic.example"], check=True, capture_output=True)
        (folder / "files").mkdir()
        (folder / "files" / "data").write_bytes(os.urandom(400_000))
        for number, node in enumerate(backends(running), start=1):
            running.start(f"quic@{node.name}", node.name,
                          ["/usr/sbin/gtlsserver", "-d", str(folder / "files"), "--no-quic-dump", "--no-http-dump", "*",
                           str(PORT), str(folder / "key.pem"), str(folder / "cert.pem")],
                          {**os.environ, "LD_PRELOAD": str(folder / "ids.so"), "SERVER_NUMBER": str(number)})
            wait_for(f"quic@{node.name}", lambda node=node: "document root" in log(running, node), 20)
        running.plain = running.config_text()
        configure(running, "quic-cid")
        yield running


def log(lab, node):
    return lab.log(f"quic@{node.name}").read_text(errors="replace")


def configure(lab, hash_key):
    lab.write_config(lab.plain + quic_pool(lab, hash_key))
    lab.lbctl("reload")
    up = lambda: [b["state"] for b in lab.lbctl_json("backends") if b["pool"] == "quic"] == ["up"] * len(backends(lab))
    wait_for("the pool's backends", up, 20)


def forget(lab):
    for node in backends(lab):
        os.truncate(lab.log(f"quic@{node.name}"), 0)


def download(lab, vip, number, *options):
    """A connection whose client changes its address 200 ms after the handshake, and asks for a file 500 ms after it."""
    folder = lab.dir / f"download{number}"
    folder.mkdir(exist_ok=True)
    host = f"[{vip}]" if ":" in vip else vip
    done = lab.exec("client", ["timeout", "30", "gtlsclient", "--no-quic-dump", "--no-http-dump", "--change-local-addr=200ms",
                               "--delay-stream=500ms", "--exit-on-all-streams-close", "--download", str(folder), *options,
                               vip, str(PORT), f"https://{host}:{PORT}/data"], check=False)
    return done.stdout + done.stderr, folder / "data"


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "no file"


def heard(lab):
    """Server name -> the clients' addresses and ports that it had packets from."""
    pattern = re.compile(r"Received packet: local=\S+ remote=(\S+)")
    return {node.name: set(pattern.findall(log(lab, node))) for node in backends(lab)}


def counted(lab, reason):
    text = subprocess.run(["curl", "-s", "--unix-socket", str(lab.dir / "control.sock"), "http://localhost/metrics"],
                          capture_output=True, text=True, check=True).stdout
    return sum(float(line.split()[-1]) for line in text.splitlines()
               if line.startswith("detour_worker_packets_total") and f'reason="{reason}"' in line)


@pytest.mark.parametrize("vip", [VIP4, VIP6])
@pytest.mark.parametrize("rebinding", [False, True])
def test_a_client_that_changes_its_address_stays_with_its_server(lab, vip, rebinding):
    """With path validation as a client does it that moves on purpose, and without, as behind a NAT that forgot."""
    forget(lab)
    before = counted(lab, "forwarded_cid")
    options = ["--nat-rebinding"] if rebinding else []
    with ThreadPoolExecutor(CLIENTS) as pool:
        results = list(pool.map(lambda n: download(lab, vip, n, *options), range(CLIENTS)))
    for text, path in results:
        assert digest(path) == digest(lab.dir / "files" / "data"), text[-2000:]
        path.unlink()
        ports = set(re.findall(r"Sent packet: local=(\S+)", text))
        assert len(ports) == 2, f"the client did not change its address: {ports}"
    clients = heard(lab)
    pairs = [{name for name, seen in clients.items() if ports_of(text) & seen} for text, _ in results]
    assert all(len(names) == 1 for names in pairs), f"a connection reached more than one server: {pairs}"
    wait_for("each change of address in the counter", lambda: counted(lab, "forwarded_cid") >= before + CLIENTS, 10)


def ports_of(text):
    """As the servers see them: ADDRESS:PORT of the client."""
    return set(re.findall(r"Sent packet: local=(\S+)", text))


def test_trace_answers_as_the_fast_path_does(lab):
    node = backends(lab)[2]
    flow = ["trace", "198.18.1.2:5000", f"{VIP4}:{PORT}/udp"]
    for how in ([], ["--predict"]):
        ask = lambda *cid: lab.lbctl_json(*flow, *cid, *how)
        one = lambda reply: reply[0] if how else reply
        placed = one(ask("--cid", "51" + "5a03" + "00" * 15))
        assert (placed["backend"], placed["reason"]) == (node.v4, "forwarded_cid")
        assert one(ask("--cid", "f1" + "5a03" + "00" * 15))["reason"] == "forwarded_new"
        assert one(ask())["reason"] == "forwarded_new"
    assert lab.lbctl(*flow, "--cid", "5", check=False).returncode == 2


def test_by_its_addresses_alone_such_a_client_loses_its_server(lab):
    """What the other tests would see if the connection id were not looked at."""
    configure(lab, "5-tuple")
    forget(lab)
    with ThreadPoolExecutor(CLIENTS) as pool:
        texts = [text for text, _ in pool.map(lambda n: download(lab, VIP4, n, "--timeout=3s"), range(CLIENTS))]
    clients = heard(lab)
    pairs = [{name for name, seen in clients.items() if ports_of(text) & seen} for text in texts]
    assert any(len(names) > 1 for names in pairs), pairs

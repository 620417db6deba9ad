"""Every kind of frame that the packet tests make the fast path send, read by tshark: none malformed, every IPv4
header's checksum right, and every checksum of segments and messages of our own making.

    well_formed.py PACKET_TESTS

What tests put into packets is arbitrary bytes, so no protocol above the transport is dissected. Checksums inside a
tunnel are the client's, which tests leave 0.
"""
import collections
import os
import subprocess
import sys
import tempfile
from pathlib import Path

AS_DATA = ["tcp.port==443", "udp.port==443", "udp.port==53"]
FIELDS = ["frame.number", "frame.protocols", "_ws.malformed", "ip.checksum.status", "tcp.checksum.status",
          "icmp.checksum.status", "icmpv6.checksum.status", "frame.len"]
BAD = "0"


def dissect(pcap: Path) -> list[list[str]]:
    checks = [f"{p}.check_checksum:TRUE" for p in ("ip", "tcp")]
    command = ["tshark", "-n", "-r", str(pcap), "-d", "udp.port==6080,ip", *[w for d in AS_DATA for w in ("-d", f"{d},data")],
               "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-o", "tcp.desegment_tcp_streams:FALSE",
               *[word for check in checks for word in ("-o", check)], "-T", "fields", "-E", "separator=|"]
    done = subprocess.run([*command, *[word for field in FIELDS for word in ("-e", field)]],
                          capture_output=True, text=True, timeout=100)
    if done.returncode != 0:
        sys.exit(f"tshark: {done.stderr}")
    return [line.split("|") for line in done.stdout.splitlines()]


def mistakes(row: list[str]) -> list[str]:
    _, protocols, malformed, ip, tcp, icmp, icmp6, _ = row
    found = ["malformed"] if malformed else []
    if BAD in ip.split(","):
        found.append("an IPv4 header's checksum")
    ours = protocols.split(":icmp")[0].count(":ip") == 1
    if ours and ":icmp" not in protocols and BAD in tcp.split(","):
        found.append("TCP checksum")
    if ours and BAD in (icmp.split(",")[0], icmp6.split(",")[0]):
        found.append("ICMP checksum")
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        pcap = Path(folder) / "sent.pcap"
        done = subprocess.run([sys.argv[1]], env=os.environ | {"DETOUR_TEST_PCAP": str(pcap)}, capture_output=True)
        if done.returncode != 0:
            sys.exit("the packet tests fail; see their own output")
        rows = dissect(pcap)
    # "udp:ip" is how tshark was told to read GUE; its ip hands IPv6 on.
    kinds = collections.Counter(row[1].removeprefix("eth:ethertype:").replace("udp:ip:ipv6", "udp:ipv6") for row in rows)
    for kind, count in sorted(kinds.items()):
        print(f"{count:6} {kind}")
    wanted = ["ip:udp:ip:tcp", "ip:udp:ipv6:tcp", "ipv6:udp:ip:tcp", "ipv6:udp:ipv6:tcp", "ip:ip:tcp", "ip:ipv6:tcp",
              "ipv6:ip:tcp", "ipv6:ipv6:tcp", "ip:gre:ip:tcp", "ip:gre:ipv6:tcp", "ip:tcp", "ipv6:tcp",
              "vlan:ethertype:ip:icmp:ip:tcp", "vlan:ethertype:ipv6:icmpv6:ipv6:tcp"]
    failed = 0
    for kind in wanted:
        if not any(k.startswith(kind) for k in kinds):
            print(f"no frame of the kind {kind}")
            failed += 1
    for row in rows:
        if found := mistakes(row):
            print(f"frame {row[0]} ({row[1]}, {row[7]} bytes): {', '.join(found)}")
            failed += 1
    print(f"{len(rows)} frames of {len(kinds)} kinds, {failed} mistakes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

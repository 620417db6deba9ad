"""Uploads through tunnels on links of MTU 1500 while clients get no ICMP: the MSS clamp alone must do."""
import pytest

from conftest import lab_name
from netlab.lab import Lab
from netlab.topology import VIP4, VIP6

TEN_MB = 10 * 1000 * 1000
NO_ICMP = """
table inet noicmp {
    chain input {
        type filter hook input priority 0; policy accept;
        icmp type { destination-unreachable, time-exceeded } drop
        icmpv6 type { destination-unreachable, packet-too-big, time-exceeded } drop
    }
}
"""


@pytest.mark.parametrize("encap", ["ipip", "gue"])
@pytest.mark.parametrize("outer", ["v4", "v6"])
def test_a_10_mb_upload_completes_without_icmp(encap, outer):
    with Lab(lab_name("mtu"), rtt_ms=4, encap=encap, outer=outer) as lab:
        rules = lab.dir / "noicmp.nft"
        rules.write_text(NO_ICMP)
        lab.exec("client", ["nft", "-f", str(rules)])
        for vip in (VIP4, VIP6):
            answer = lab.request(vip, path="/upload", method="POST", body=bytes(TEN_MB), timeout=60)
            assert 200 <= answer.status < 300, answer
        # Every site, the gateway's unmodified servers too.
        seen = set()
        for _ in range(40):
            seen.add(lab.request(VIP4, path="/upload", method="POST", body=bytes(100_000), timeout=20).site)
        assert seen == set(lab.topology.sites)

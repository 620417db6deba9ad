"""Looking into the fast path of a whole lab: lbctl capture, read by tshark; lbctl trace, compared with what then happens."""
import json
import signal
import subprocess

import pytest

from conftest import lab_name
from netlab.lab import Lab
from netlab.processes import wait_for
from netlab.topology import UDP_PORT, VIP4, VIP6
from test_failover import Session

PATIENCE_SECONDS = 3  # of a capture without a reader: dataplane/io/introspection.h


@pytest.fixture(scope="module")
def lab():
    with Lab(lab_name("look"), rtt_ms=5) as running:
        running.wait_serving()
        yield running


class Capture:
    """lbctl capture, running."""

    def __init__(self, lab, *options):
        self.process = lab.popen("pop", [lab.program("lbctl"), "--socket", str(lab.dir / "control.sock"), "capture", *options],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        said = self.process.stderr.readline()
        assert said == "capturing\n", said + self.process.stderr.read()

    def end(self, number=signal.SIGINT, seconds=20):
        self.process.send_signal(number)
        return self.finish(seconds)

    def finish(self, seconds=20):
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err


def capturing(lab):
    """A second capture is refused as long as one is under way."""
    done = lab.lbctl("capture", "--for", "1ms", "--count", "1", check=False)
    return done.returncode == 3 and "another one is under way" in done.stderr


def packets(path, *fields):
    """Each packet's fields, as tshark reads the file; it must find nothing wrong with the file."""
    words = [word for field in fields for word in ("-e", field)]
    done = subprocess.run(["tshark", "-n", "-r", str(path), "-d", "udp.port==6080,data", "-T", "fields", "-E", "occurrence=f",
                           "-E", "separator=|", *words], capture_output=True, text=True, check=True)
    assert "cut short" not in done.stderr and "malformed" not in done.stderr, done.stderr
    return [line.split("|") for line in done.stdout.splitlines()]


def test_a_capture_shows_each_packet_before_and_after_with_what_became_of_it(lab):
    path = lab.dir / "both.pcapng"
    capture = Capture(lab, "--pool", "web", "-w", str(path))
    sessions = [Session(lab) for _ in range(6)]
    expected = {str(s.source[1]): s.site for s in sessions}
    code, _, err = capture.end()
    assert code == 0 and "captured, of" in err
    rows = packets(path, "frame.interface_name", "ip.src", "tcp.srcport", "frame.comment", "frame.len")
    received = [r for r in rows if r[0].endswith(" in") and r[2] in expected]
    sent = [r for r in rows if r[0].endswith(" out")]
    assert received and len(sent) >= len(received)
    for _, _, port, comment, _ in received:
        reason, pool, site, backend = comment.split()
        assert (pool, site) == ("web", expected[port])
        assert reason.startswith("forwarded_") and backend
    assert {c.split()[0] for _, _, _, c, _ in received} >= {"forwarded_new", "forwarded_handshake"}
    for session in sessions:
        session.close()


def test_a_capture_ends_at_its_count_and_prints_a_line_for_each(lab):
    capture = Capture(lab, "--reason", "forwarded_new", "--count", "3")
    for _ in range(5):
        Session(lab).close()
    code, out, err = capture.finish()
    lines = out.splitlines()
    assert code == 0 and len(lines) == 3, err
    for line in lines:
        assert f"> {VIP4}:80 tcp S" in line and "forwarded_new web" in line and "->" in line


def test_a_capture_of_one_site_has_that_site_alone_and_json_has_the_bytes(lab):
    capture = Capture(lab, "--site", "anyang", "--output", "json", "--snap", "2048")
    sites = set()
    while "anyang" not in sites:
        session = Session(lab)
        sites.add(session.site)
        session.close()
    code, out, err = capture.end(signal.SIGTERM)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and rows, err
    for row in rows:
        assert row["site"] == "anyang"
        assert len(row["before"]) // 2 == row["before_length"]
        assert len(row["after"]) // 2 == row["after_length"]
        # The tunnel carries the client's packet unchanged.
        assert row["after"].endswith(row["before"][28:])


def test_a_capture_whose_asker_dies_ends_by_itself(lab):
    capture = Capture(lab)
    assert capturing(lab)
    code, _, _ = capture.end(signal.SIGKILL)
    assert code == -signal.SIGKILL
    wait_for("the next one may start", lambda: not capturing(lab), PATIENCE_SECONDS + 10)


@pytest.mark.parametrize("options, why", [(["--pool", "nosuch"], "no pool nosuch"), (["--site", "nosuch"], "no site nosuch"),
                                          (["--reason", "nosuch"], "no reason nosuch"),
                                          (["--reason", "transmit_full"], "counted outside the stages"),
                                          (["--sample", "1/0"], "1/0"), (["--side", "after"], "--write")])
def test_what_can_not_be_captured_is_wrong_usage(lab, options, why):
    done = lab.lbctl("capture", "--for", "1ms", *options, check=False)
    assert done.returncode == 2 and why in done.stderr, done.stderr


def trace(lab, source, vip, *options):
    return lab.lbctl_json("trace", source, vip, *options)


def test_a_trace_says_where_a_connection_is_and_by_which_entry(lab):
    for vip in (VIP4, VIP6):
        form = "[{}]:{}" if ":" in vip else "{}:{}"
        session = Session(lab, vip)
        source = form.format(*session.source[:2])
        known = trace(lab, source, form.format(vip, 80) + "/tcp", "--flags", "data", "--size", "600")
        assert (known["reason"], known["site"], known["known"]) == ("forwarded_pinned", session.site, "flow")
        assert known["worker"] == 0 and known["length"] > 600
        # What would leave ends in the packet itself, as far as it is shown.
        inner = known["packet"][:200]
        assert inner in known["frame"]
        session.close()


def test_a_trace_of_a_new_flow_is_where_it_then_goes_and_makes_no_entry(lab):
    for port in range(61001, 61009):
        source = f"198.18.1.77:{port}"
        first = trace(lab, source, f"{VIP4}:80/tcp")
        assert (first["reason"], first["known"]) == ("forwarded_new", "")
        assert trace(lab, source, f"{VIP4}:80/tcp") == first, "the first one left something behind"
        assert first["site"] == lab.lbctl_json("trace", source, f"{VIP4}:80/tcp", "--predict")[0]["site"]
        udp = trace(lab, source, f"{VIP4}:{UDP_PORT}/udp")
        assert udp["reason"] == "forwarded_new"


def test_a_trace_of_what_is_not_forwarded_says_why(lab):
    source = "198.18.1.77:61001"
    assert trace(lab, source, f"{VIP4}:22/tcp")["reason"] == "no_service"
    big = trace(lab, source, f"{VIP4}:80/tcp", "--flags", "data", "--size", "1500")
    assert (big["outcome"], big["reason"]) == ("answered", "too_big_answered")
    malformed = lab.lbctl_json("trace", "--packet", "45000014")
    assert (malformed["outcome"], malformed["reason"]) == ("dropped", "truncated_ip")
    text = lab.lbctl("trace", source, f"{VIP4}:80/tcp").stdout
    for word in ("forwarded_new", "web", "leaves", "0000"):
        assert word in text
    assert lab.lbctl("trace", "--packet", "xyz", check=False).returncode == 2
    assert lab.lbctl("trace", source, f"{VIP4}:80/tcp", "--size", "30", check=False).returncode == 2

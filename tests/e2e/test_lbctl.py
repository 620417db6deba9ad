"""lbctl against a scripted control process: each verb as a table and as JSON, each exit code, Ctrl-C, no server, a
server that hangs. Needs no root and no namespace."""
import json
import os
import pty
import re
import select
import signal
import socket
import socketserver
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LBCTL = Path(os.environ.get("DETOUR_BUILD", REPOSITORY / "build")) / "tools/lbctl/lbctl"
START = "2026-05-01T03:04:05.678901Z"
DEADLINE = 60  # of one lbctl; never reached when all is well

DRAIN = {"target": "pangyo", "kind": "site", "since": START, "expires": "2099-05-01T03:34:05.000000Z", "reason": "maintenance",
         "by": "kim (root)", "forced": False, "last_resort": False, "percent": 100, "acknowledged": True, "new_flows_per_second": 0.0,
         "flows_left": 0}
SITES = [
    {"name": "pangyo", "domain": ["kr", "seongnam", "pangyo"], "tier": "active", "verdict": "dark", "since": START,
     "admit": 0, "keep": False, "reason": "2 of 2 backends down: timeout \x1b[31m", "backends_up": 0, "backends": 2,
     "new_flows_per_second": 0, "bits_per_second": 0, "capacity_new_flows": 200000, "drain": DRAIN},
    {"name": "anyang", "domain": ["kr", "anyang"], "tier": "hot", "verdict": "healthy", "since": START, "admit": 1,
     "keep": True, "reason": "", "backends_up": 2, "backends": 2, "new_flows_per_second": 12345.6,
     "bits_per_second": 1.5e9, "capacity_new_flows": 0}]
POOLS = [{"name": "talk", "vips": ["203.0.113.10:443/tcp", "[2001:db8:f::10]:443/tcp"], "encap": "gue", "hash": "5-tuple", "data": "any",
          "stranded": "reset", "priority": 1, "min_sites": 1, "state": "degraded", "reason": "1 of 2 sites",
          "sites": [{"site": "pangyo", "tier": "active", "weight": 100, "admit": 0, "backends_up": 0, "backends": 2,
                     "share": 0},
                    {"site": "anyang", "tier": "hot", "weight": 100, "admit": 1, "backends_up": 2, "backends": 2,
                     "share": 1}]}]
BACKENDS = [{"pool": "talk", "site": site, "address": address, "weight": 100, "state": state, "since": START,
             "reason": reason, "up": state == "up", "keep": True, "probe_ms": 1.25}
            for site, address, state, reason in (("pangyo", "10.1.0.11", "down", "timeout"),
                                                 ("anyang", "10.2.0.11", "up", "ok"))]
VERSION = {"version": "9.9.9", "api": 1, "pop": "icn1", "started": START}
STATUS = {"version": VERSION, "now": "2026-05-01T04:05:06.000000Z", "state": "alarm", "alarms": ["site pangyo is dark"],
          "dataplane": {"connected": True, "version": "9.9.9", "restored": False, "generation": 42, "acknowledged": 42,
                        "rebuilds": 7, "problem": "",
                        "workers": [{"worker": 0, "acknowledged": 42, "flows_v4": 1234567, "flows_v6": 3,
                                     "entries_v4": 2097152, "entries_v6": 524288, "evicted_confirmed": 12, "evicted_unconfirmed": 987,
                                     "evicted_idle_seconds": 43200}]},
          "sites": SITES, "pools": 1, "pools_not_ok": 1, "drains": [DRAIN],
          "hold": {"since": START, "expires": "2099-05-01T03:34:05.000000Z", "reason": "storm", "by": "kim"},
          "weights": [{"target": "talk@anyang", "weight": 25, "since": START, "expires": "2099-05-01T03:34:05.000000Z",
                       "reason": "canary", "by": "kim", "here": True}]}
EVENTS = [{"sequence": n, "time": f"2026-05-01T03:04:{n:02}.678901Z", "kind": "verdict", "severity": "alarm",
           "site": "pangyo", "text": "suspect -> dark", "data": {"switch_us": 200 + n, "monotonic_us": 9, "to": "dark"}} for n in range(1, 6)]
DRAINED = {"drain": DRAIN, "effect": "no new flow goes there", "switch_us": 210, "not_done": [],
           "moves": [{"pool": "talk", "from": "pangyo", "to": "anyang", "share": 0.5}]}
CONFIG = {"path": "/etc/detour", "loaded": START, "sites": 2, "pools": 1, "backends": 2}
PLAN = {"domain": "kr", "failing": ["pangyo"], "warnings": ["capacity of anyang is not stated"],
        "pools": [{"pool": "talk", "lost": False,
                   "sites": [{"site": "pangyo", "fails": True, "now": 0.5, "after": 0},
                             {"site": "anyang", "fails": False, "now": 0.5, "after": 1, "load_after": 1.25}]}]}
INCIDENTS = [{"number": 12, "site": "pangyo", "opened": START, "text": "pangyo is dark", "switched_ms": 402.5},
             {"number": 11, "site": "anyang", "opened": START, "closed": "2026-05-01T03:05:05.678901Z", "text": "anyang is dark"}]
REPLIES = {"/v1/incidents": INCIDENTS, "/v1/version": VERSION, "/v1/status": STATUS, "/v1/sites": SITES, "/v1/pools": POOLS, "/v1/backends": BACKENDS,
           "/v1/drain": DRAINED, "/v1/undrain": {"target": "pangyo", "effect": "comes back by ramp", "not_done": []},
           "/v1/hold": {"effect": "automation stands still", "expires": "2099-05-01T03:34:05.000000Z", "not_done": []},
           "/v1/release": {"effect": "automation goes on", "not_done": []},
           "/v1/weight": {"effect": "pangyo has weight 7", "not_done": []},
           "/v1/config/confirm": {"effect": "it stays", "not_done": []},
           "/v1/config/diff": {"changed": True, "changes": ["pool talk: weight"], "warnings": ["look"],
                               "moves": [{"pool": "talk", "from": "pangyo", "to": "anyang", "share": 0.25}],
                               "pools": [{"pool": "talk", "moved": 0.25, "reshuffled": 0, "flows_lost": 1234}],
                               "sites": [{"pool": "talk", "site": "pangyo", "before": 0.5, "after": 0.25, "flows": 5678,
                                          "flows_lost": 1234}]},
           "/v1/config": CONFIG, "/v1/plan": PLAN,
           "/v1/reload": {"changed": True, "generation": 43, "changes": ["pool talk: weight of 10.1.0.11 50"]},
           "/v1/trace/packet": {"outcome": "forwarded", "reason": "forwarded_new", "description": "A SYN.", "pool": "talk",
                                "site": "anyang", "backend": "10.2.0.11", "known": "", "packet": "45000014", "port": "eth1",
                                "length": 82, "frame": "0200"},
           "/v1/trace": [{"site": "anyang", "backend": "10.2.0.11", "reason": "forwarded_new"}]}
REFUSED = (409, {"code": "refused", "doing": "draining pangyo", "what": "pool talk would have 0 sites, it needs 1",
                 "rail": "min_sites", "override": "--force"})


class Fake:
    """A control process whose replies a test sets: path -> document, (status, document), or a function of the body."""

    def __init__(self, path: Path):
        self.path = str(path)
        self.replies = dict(REPLIES)
        self.requests: list[tuple[str, str, str]] = []
        self.hang = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def address_string(self):
                return "unix"

            def log_message(self, *_):
                pass

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                fake.requests.append((self.command, self.path, body))
                path, _, query = self.path.partition("?")
                if path == "/v1/events":
                    return self.events(dict(part.split("=") for part in query.split("&") if part))
                reply = fake.replies.get(path, (404, {"code": "not_found", "doing": path, "what": "no such path"}))
                if callable(reply):
                    reply = reply(body)
                status, document = reply if isinstance(reply, tuple) else (200, reply)
                text = (json.dumps(document) + "\n").encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)
                return None

            def events(self, query):
                since = int(query.get("since", 0))
                self.send_response(200)
                if query.get("follow") != "1":
                    limit = int(query.get("limit", 100))
                    chosen = [e for e in EVENTS if e["sequence"] > since][:limit] if "since" in query else EVENTS[-limit:]
                    text = json.dumps({"first": 1, "last": 5, "events": chosen}).encode()
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)
                    return
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for line in ["", json.dumps(EVENTS[0] | {"sequence": since + 1}), json.dumps(EVENTS[0] | {"sequence": since + 5})]:
                    data = (line + "\n").encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                    self.wfile.flush()
                fake.hang.wait(DEADLINE)

            do_GET = do_POST = answer

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self.server = Server(self.path, Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.hang.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def fake(tmp_path):
    server = Fake(tmp_path / "control.sock")
    yield server
    server.close()


def environment(**more):
    return {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "DETOUR_SOCKET", "SUDO_USER")} | more


def run(fake, *words, **more):
    path = fake if isinstance(fake, str) else fake.path
    return subprocess.run([LBCTL, "--socket", path, *words], capture_output=True, text=True, timeout=DEADLINE,
                          env=environment(**more), check=False)


@contextmanager
def started(fake, *words):
    process = subprocess.Popen([LBCTL, "--socket", fake.path, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=environment())
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(stream, text: str) -> str:
    """Lines up to the one that holds `text`."""
    lines = []
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        line = stream.readline()
        lines.append(line)
        if not line or text in line:
            break
    assert text in lines[-1], "".join(lines)
    return "".join(lines)


# verb and arguments, the path asked, words that the table must hold
VERBS = [
    (["status"], "/v1/status", ["PoP icn1", "state: alarm", "ALARM  site pangyo is dark", "plan 42 acknowledged by 1 of 1",
                                "1,234,570 flows", "NEW FLOWS/S", "12,346", "1.500", "maintenance", "next: lbctl events", "AUTOMATION IS ON HOLD", "storm", "talk@anyang",
                                "[this PoP alone]"]),
    (["sites"], "/v1/sites", ["kr/seongnam/pangyo", "200,000", "dark", "0/2", "2099-05-01"]),
    (["pools"], "/v1/pools", ["203.0.113.10:443/tcp +1", "degraded", "100 %", "0 %", "1 of 2 sites"]),
    (["backends"], "/v1/backends", ["10.1.0.11", "timeout", "1.2"]),
    (["incidents"], "/v1/incidents", ["OPEN", "closed", "402.5 ms", "1m", "pangyo is dark", "next: lbctl incidents 12"]),
    (["plan", "--fail", "kr"], "/v1/plan?fail=kr", ["if kr fails", "125 %", "OVERLOADED", "WARNING"]),
    (["config", "show"], "/v1/config", ["/etc/detour", "2 sites, 1 pool, 2 backends"]),
    (["reload"], "/v1/reload", ["plan 43", "weight of 10.1.0.11"]),
    (["config", "apply"], "/v1/reload", ["plan 43"]),
    (["config", "confirm"], "/v1/config/confirm", ["it stays"]),
    (["config", "diff"], "/v1/config/diff", ["1 change", "25 %", "anyang", "1,234", "WARNING  look"]),
    (["undrain", "pangyo"], "/v1/undrain", ["undrained pangyo: comes back by ramp"]),
    (["hold"], "/v1/hold", ["automation stands still", "2099", "undo:  lbctl release"]),
    (["release"], "/v1/release", ["automation goes on"]),
    (["weight", "pangyo", "7"], "/v1/weight", ["pangyo has weight 7", "undo:  lbctl weight pangyo --clear"]),
    (["drain", "pangyo"], "/v1/drain", ["no new flow goes there", "talk", "anyang", "50 %", "every worker", "210 us",
                                        "flows left  0", "undo:  lbctl undrain pangyo"]),
    (["trace", "198.51.100.7:40000", "203.0.113.10:443/tcp", "--predict"], "/v1/trace",
     ["198.51.100.7:40000", "10.2.0.11", "forwarded_new"]),
    (["trace", "198.51.100.7:40000", "203.0.113.10:443/tcp"], "/v1/trace/packet",
     ["forwarded_new: A SYN.", "anyang", "10.2.0.11", "nothing: no worker", "by eth1, 82 bytes", "0000  02 00"]),
]


@pytest.mark.parametrize("words, path, holds", VERBS, ids=[" ".join(v[0][:2]) for v in VERBS])
def test_verb(fake, words, path, holds):
    table = run(fake, *words)
    assert table.returncode == 0, table.stderr
    assert fake.requests[-1][1] == path
    for word in holds:
        assert word in table.stdout
    assert "\x1b" not in table.stdout, "no colour without a terminal, and no escape from a probed host"
    as_json = run(fake, *words, "--output", "json")
    assert as_json.returncode == 0, as_json.stderr
    assert json.loads(as_json.stdout) == REPLIES[path.partition("?")[0]]


def test_flows(fake):
    table = run(fake, "flows")
    assert table.returncode == 0 and "1,234,567" in table.stdout and "CAPACITY FLOWS/S" in table.stdout
    worker = table.stdout[table.stdout.index("WORKER"):].splitlines()[1].split()
    assert worker == ["0", "1,234,567", "58.9", "%", "3", "<0.1", "%", "12", "1h00m", "987", "42"], "how full, and who was lost after how long"
    assert json.loads(run(fake, "-o", "json", "flows").stdout) == STATUS


REQUESTS = [
    (["drain", "pangyo", "--percent", "25", "--here"], {"target": "pangyo", "percent": 25, "here": True}),
    (["drain", "pangyo", "--deadline", "90s", "--for", "1h"], {"target": "pangyo", "for_s": 3600, "deadline_s": 90}),
    (["drain", "pangyo", "--now"], {"target": "pangyo", "deadline_s": 0}),
    (["hold", "--for", "10m", "--reason", "storm"], {"for_s": 600, "reason": "storm"}),
    (["weight", "talk@pangyo", "0", "--force"], {"target": "talk@pangyo", "weight": 0, "force": True}),
    (["weight", "talk@pangyo", "--clear"], {"target": "talk@pangyo"}),
    (["config", "apply", "--confirm-within", "5m"], {"confirm_within_s": 300}),
    (["config", "diff", "/tmp/x.toml"], {"path": "/tmp/x.toml"}),
    (["trace", "198.51.100.7:1", "203.0.113.10:443/tcp", "--flags", "data", "--size", "1500"],
     {"source": "198.51.100.7:1", "vip": "203.0.113.10:443/tcp", "flags": "data", "size": 1500}),
]


@pytest.mark.parametrize("words, body", REQUESTS, ids=[" ".join(v[0][:3]) for v in REQUESTS])
def test_what_is_asked_of_the_server(fake, words, body):
    done = run(fake, *words)
    assert done.returncode == 0, done.stderr
    sent = json.loads(fake.requests[-1][2])
    sent.pop("by", None)
    assert sent == body


@pytest.mark.parametrize("words", [["drain", "pangyo", "--percent", "101"], ["drain", "pangyo", "--now", "--percent", "50"],
                                   ["drain", "pangyo", "--now", "--deadline", "1m"], ["weight", "pangyo"],
                                   ["weight", "pangyo", "7", "--clear"], ["weight", "pangyo", "65536"], ["hold", "--for", "5"]])
def test_what_makes_no_sense_is_wrong_usage(fake, words):
    done = run(fake, *words)
    assert done.returncode == 2, done.stderr
    assert not fake.requests


def test_the_timeline_of_an_incident(fake):
    fake.replies["/v1/incidents"] = INCIDENTS[0] | {"left_out": 3, "lines": [
        {"time": START, "at_ms": 0, "kind": "probe_missed", "text": "10.1.0.11 (talk@pangyo): missed a probe"},
        {"time": START, "at_ms": 12345.6, "kind": "verdict", "text": "pangyo: is dark", "rule": "the burst failed"}]}
    done = run(fake, "incidents", "12")
    assert done.returncode == 0, done.stderr
    assert fake.requests[-1][1] == "/v1/incidents?number=12"
    for word in ("incident 12: pangyo is dark", "OPEN", "0.0 ms", "12.346 s", "the burst failed", "3 lines left out"):
        assert word in done.stdout
    assert json.loads(run(fake, "incidents", "12", "-o", "json").stdout)["lines"][1]["rule"] == "the burst failed"
    assert run(fake, "incidents", "no").returncode == 2


def test_audit_is_the_part_that_survives_each_domain(fake):
    done = run(fake, "audit")
    assert done.returncode == 0, done.stderr
    asked = [r[1] for r in fake.requests if r[1].startswith("/v1/plan")]
    assert asked == ["/v1/plan?fail=kr", "/v1/plan?fail=anyang", "/v1/plan?fail=pangyo"]
    document = json.loads(run(fake, "audit", "-o", "json").stdout)
    assert {d["domain"]: d["whole_fleet"] for d in document["domains"]} == {"kr": False}  # as the fake always answers
    assert document["pools"] == [{"pool": "talk", "survives": 0.8, "room_known": True, "worst_domain": "kr"}]
    assert "80 %" in done.stdout and "counted" in done.stdout


def test_a_drill_measures_reports_and_gives_back(fake):
    fake.replies["/v1/status"] = STATUS | {"drains": []}
    done = run(fake, "drill", "anyang", "--percent", "5", "--for", "2s", "-o", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["undone"] and report["percent"] == 5 and report["incidents"] == []
    posts = [(r[1], json.loads(r[2])) for r in fake.requests if r[0] == "POST"]
    assert [p[0] for p in posts] == ["/v1/drain", "/v1/undrain"]
    assert posts[0][1]["percent"] == 5 and posts[0][1]["for_s"] == 32 and posts[0][1]["reason"] == "drill"


def test_a_drill_that_can_not_be_given_back_says_so_and_fails(fake):
    fake.replies["/v1/status"] = STATUS | {"drains": []}
    fake.replies["/v1/undrain"] = (503, {"code": "unavailable", "doing": "undraining", "what": "stopping"})
    done = run(fake, "drill", "anyang", "--for", "1s")
    assert done.returncode == 1
    assert "NOT given back" in done.stdout and "ends by itself" in done.stdout


def test_no_drill_of_what_is_drained_already(fake):
    done = run(fake, "drill", "pangyo")
    assert done.returncode == 3
    assert not [r for r in fake.requests if r[0] == "POST"]


def test_columns_are_aligned(fake):
    lines = run(fake, "backends").stdout.splitlines()
    for header in ("SITE", "STATE", "SINCE", "LAST PROBE"):
        column = lines[0].index(header)
        assert all(line[column - 1] == " " and line[column] != " " for line in lines[1:]), lines


def test_filters(fake):
    assert "10.2.0.11" not in run(fake, "backends", "--site", "pangyo").stdout
    assert json.loads(run(fake, "backends", "--pool", "none", "-o", "json").stdout) == []


def test_version_without_a_server_tells_its_own(fake, tmp_path):
    both = json.loads(run(fake, "version", "-o", "json").stdout)
    assert both["server"] == VERSION and re.fullmatch(r"\d+\.\d+\.\d+", both["lbctl"])
    alone = run(str(tmp_path / "none.sock"), "version")
    assert alone.returncode == 0 and "lbctl" in alone.stdout and "none.sock" in alone.stderr


def test_drain_sends_what_was_said(fake):
    assert run(fake, "drain", "talk@pangyo", "--for", "1h30m", "--reason", "a \"b\"", "--force", "--last-resort",
               SUDO_USER="kim").returncode == 0
    assert json.loads(fake.requests[-1][2]) == {"target": "talk@pangyo", "for_s": 5400, "reason": "a \"b\"", "force": True,
                                                "last_resort": True, "by": "kim"}
    run(fake, "drain", "pangyo", SUDO_USER="kim")
    assert json.loads(fake.requests[-1][2]) == {"target": "pangyo", "by": "kim"}


def test_trace_of_a_file(fake, tmp_path):
    flows = [{"source": "[2001:db8::1]:1", "vip": "[2001:db8:f::10]:443/tcp"}]
    for document in (flows, {"flows": flows}):
        (tmp_path / "flows.json").write_text(json.dumps(document))
        done = run(fake, "trace", "--file", str(tmp_path / "flows.json"), "-o", "json")
        assert done.returncode == 0, done.stderr
        assert json.loads(fake.requests[-1][2]) == {"flows": flows}
    assert run(fake, "trace", "--file", str(tmp_path / "none.json")).returncode == 2
    (tmp_path / "flows.json").write_text("[{}]")
    assert "flows[0]" in run(fake, "trace", "--file", str(tmp_path / "flows.json")).stderr


USAGE = [[], ["frobnicate"], ["drain"], ["drain", "pangyo", "--for", "30"], ["drain", "pangyo", "--for", "0s"],
         ["status", "--output", "xml"], ["trace"], ["trace", "198.51.100.7:1"], ["trace", "nonsense", "203.0.113.10:443/tcp"],
         ["trace", "198.51.100.7:1", "203.0.113.10:443"], ["events", "--since", "yesterday"], ["trace", "198.51.100.7:1", "203.0.113.10:443/tcp", "--flags", "xmas"],
         ["trace", "--packet", "45", "--predict"], ["capture", "--sample", "1/x"], ["capture", "--side", "after"], ["plan"], ["config"],
         ["config", "check"], ["config", "show", "--dataplane-args"], ["completion", "fish"], ["status", "extra"]]


@pytest.mark.parametrize("words", USAGE, ids=lambda words: " ".join(words) or "nothing")
def test_wrong_usage_exits_2_and_asks_nothing(fake, words):
    done = run(fake, *words)
    assert done.returncode == 2 and done.stderr
    assert fake.requests == []


ERRORS = [
    ("refused", REFUSED, 3, ["refused: draining pangyo", "rail: min_sites", "to do it all the same: --force"]),
    ("rail without override", (409, {"code": "refused", "doing": "d", "what": "w", "rail": "r"}), 3, ["nothing overrides it"]),
    ("unknown target", (404, {"code": "not_found", "doing": "draining pangio", "what": "there is pangyo, anyang"}), 2,
     ["there is pangyo, anyang"]),
    ("failed", (500, {"code": "system", "doing": "writing", "what": "no space left"}), 1, ["no space left"]),
    ("timeout", (504, {"code": "timeout", "doing": "draining", "what": "no result within 30000 ms"}), 1, ["no result"]),
    ("no error of ours", (502, "what?"), 1, ["502"]),
    ("not everywhere", DRAINED | {"not_done": [{"where": "fast path", "why": "not connected"}]}, 4,
     ["NOT DONE at fast path: not connected"]),
]


@pytest.mark.parametrize("reply, code, says", [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS])
def test_exit_codes(fake, reply, code, says):
    fake.replies["/v1/drain"] = reply
    done = run(fake, "drain", "pangyo")
    assert done.returncode == code
    for word in says:
        assert word in done.stdout + done.stderr
    if code not in (0, 4):
        assert done.stdout == ""
        error = json.loads(run(fake, "drain", "pangyo", "-o", "json").stderr)
        assert error["code"] and error["what"]


def test_mistakes_of_a_reload_are_printed(fake):
    fake.replies["/v1/reload"] = (400, {"code": "invalid_argument", "doing": "loading", "what": "2 mistakes",
                                        "details": ["a.toml:1:2: found x", "b.toml:3:4: found y"]})
    done = run(fake, "config", "apply")
    assert done.returncode == 2 and "a.toml:1:2" in done.stderr and "b.toml:3:4" in done.stderr


def test_no_server_says_where_and_how(tmp_path):
    socket_path = str(tmp_path / "none.sock")
    done = run(socket_path, "status")
    assert done.returncode == 1
    assert socket_path in done.stderr and "systemctl start detour-control" in done.stderr


def test_a_server_that_says_nothing_is_given_up(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        path = str(tmp_path / "hang.sock")
        listener.bind(path)
        listener.listen(8)
        begin = time.monotonic()
        done = run(path, "status")
        assert done.returncode == 1 and "did not answer in time" in done.stderr
        assert 5 < time.monotonic() - begin < 30


def with_drain(**more):
    return STATUS | {"drains": [DRAIN | more]}


def test_wait_goes_on_until_nothing_is_left(fake):
    looks = iter([with_drain(acknowledged=False), with_drain(new_flows_per_second=3.0, flows_left=70),
                  with_drain(flows_left=5), with_drain()])
    last = with_drain()
    fake.replies["/v1/status"] = lambda _: next(looks, last)
    done = run(fake, "drain", "pangyo", "--wait")
    assert done.returncode == 0, done.stderr
    for word in ("not acknowledged", "3 new flows/s", "70 flows left", "5 flows left", "done"):
        assert word in done.stderr


def test_wait_times_out_with_5_and_the_drain_goes_on(fake):
    fake.replies["/v1/status"] = with_drain(flows_left=5)
    done = run(fake, "drain", "pangyo", "--wait", "--timeout", "1s")
    assert done.returncode == 5
    assert "the drain goes on" in done.stderr and "lbctl undrain pangyo" in done.stderr
    assert [path for _, path, _ in fake.requests if "undrain" in path] == []


def test_wait_speaks_every_few_seconds(fake):
    fake.replies["/v1/status"] = with_drain(flows_left=5)
    done = run(fake, "drain", "pangyo", "--wait", "--timeout", "7s")
    assert done.stderr.count("5 flows left") >= 2


def test_wait_ends_when_the_drain_is_gone(fake):
    fake.replies["/v1/status"] = STATUS | {"drains": []}
    done = run(fake, "drain", "pangyo", "--wait")
    assert done.returncode == 1 and "not in force any more" in done.stderr


def test_wait_outlives_a_control_process_that_is_away(fake):
    answers = iter([(503, {"code": "unavailable", "doing": "d", "what": "busy"}), with_drain()])
    fake.replies["/v1/status"] = lambda _: next(answers)
    done = run(fake, "drain", "pangyo", "--wait")
    assert done.returncode == 0 and "can't see" in done.stderr


def test_json_with_wait_is_one_document(fake):
    done = run(fake, "drain", "pangyo", "--wait", "-o", "json")
    assert done.returncode == 0 and json.loads(done.stdout) == DRAINED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_waiting_undoes_nothing_and_says_so(fake, number):
    fake.replies["/v1/status"] = with_drain(flows_left=5)
    with started(fake, "drain", "pangyo", "--wait") as process:
        read_until(process.stderr, "5 flows left")
        process.send_signal(number)
        _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == -number
    assert "goes on" in errors and "lbctl undrain pangyo" in errors
    assert [path for _, path, _ in fake.requests if "undrain" in path] == []


def test_ctrl_c_before_the_answer_says_that_it_may_be_in_force(fake):
    asked = threading.Event()

    def late(_):
        asked.set()
        fake.hang.wait(DEADLINE)
        return DRAINED

    fake.replies["/v1/drain"] = late
    with started(fake, "drain", "pangyo") as process:
        assert asked.wait(DEADLINE)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == -signal.SIGINT
    assert "may be in force" in errors


def test_events(fake):
    page = run(fake, "events", "--limit", "2")
    assert page.returncode == 0 and len(page.stdout.splitlines()) == 2
    assert page.stdout.endswith("suspect -> dark  [switch_us=205]\n")
    after = [json.loads(line) for line in run(fake, "events", "--since", "3", "-o", "json").stdout.splitlines()]
    assert after == EVENTS[3:]
    assert run(fake, "events", "--since", "1s").stdout == ""
    assert len(run(fake, "events", "--since", "365d").stdout.splitlines()) == 5


def test_events_follow_shows_what_comes_and_what_was_missed(fake):
    with started(fake, "events", "--follow", "--limit", "1", "-o", "json") as process:
        seen = [json.loads(process.stdout.readline())["sequence"] for _ in range(3)]
        assert seen == [5, 6, 10]
        assert "3 events not kept" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE)


def terminal_output(fake, **more) -> str:
    """lbctl status on a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen([LBCTL, "--socket", fake.path, "status"], stdout=follower, env=environment(**more))
    os.close(follower)
    output = b""
    while select.select([leader], [], [], DEADLINE)[0]:
        try:
            output += os.read(leader, 65536)
        except OSError:  # the other side is closed
            break
    os.close(leader)
    assert process.wait(DEADLINE) == 0
    return output.decode()


def test_colour_on_a_terminal_alone_and_never_with_no_color(fake):
    assert "\x1b[1;31mdark\x1b[0m" in terminal_output(fake, TERM="xterm")
    assert "\x1b" not in terminal_output(fake, TERM="xterm", NO_COLOR="1")
    assert "\x1b" not in terminal_output(fake, TERM="dumb")


def good_config(tmp_path) -> Path:
    text = (REPOSITORY / "config/examples/detour.toml").read_text()
    text = re.sub(r'fleet_seed = ".*?"', 'fleet_seed = "0123456789abcdef0123456789abcdef"', text)
    path = tmp_path / "detour.toml"
    path.write_text(text)
    return path


def test_config_check_and_show(tmp_path):
    path = good_config(tmp_path)
    nowhere = str(tmp_path / "none.sock")
    done = run(nowhere, "config", "check", str(path))
    assert done.returncode == 0, done.stderr
    assert "good" in done.stdout
    assert run(nowhere, "config", "show", str(path)).returncode == 0
    arguments = run(nowhere, "config", "show", "--dataplane-args", str(path)).stdout
    assert re.fullmatch(r"(--port \S+ )+--workers \d+ --socket \S+ --state-dir \S+ --flows-per-worker \d+\n", arguments)
    document = json.loads(run(nowhere, "config", "show", str(path), "-o", "json").stdout)
    assert document["ok"] and document["dataplane_args"] + "\n" == arguments


def test_config_check_prints_every_mistake_with_its_place(tmp_path):
    path = tmp_path / "bad.toml"
    lines = good_config(tmp_path).read_text().splitlines()
    lines += ["[[site]]", 'name = "x"', "domain = 3", 'tier = "luke"']
    path.write_text("\n".join(lines))
    done = run(str(tmp_path / "none.sock"), "config", "check", str(path))
    assert done.returncode == 2 and done.stdout == ""
    places = re.findall(rf"^{re.escape(str(path))}:(\d+):\d+: found .*, expected ", done.stderr, re.M)
    assert {str(len(lines) - 1), str(len(lines))} <= set(places), done.stderr
    as_json = run(str(tmp_path / "none.sock"), "config", "check", str(path), "-o", "json")
    assert as_json.returncode == 2
    assert {m["line"] for m in json.loads(as_json.stdout)["mistakes"]} == {int(p) for p in places}
    assert run(str(tmp_path / "none.sock"), "config", "check", str(tmp_path / "missing.toml")).returncode == 2


def test_completion_knows_verbs_and_asks_the_server_for_names(fake, tmp_path):
    script = run(fake, "completion", "bash").stdout

    def complete(*words):
        text = script + f"""
COMP_WORDS=({' '.join(words)} '') ; COMP_CWORD={len(words)} ; _lbctl ; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
        return subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=DEADLINE, check=True,
                              env=environment(DETOUR_SOCKET=fake.path, PATH=f"{LBCTL.parent}:{os.environ['PATH']}")
                              ).stdout.split()

    assert {"status", "drain", "config"} <= set(complete("lbctl"))
    assert complete("lbctl", "drain") == ["pangyo", "anyang", "talk@pangyo", "talk@anyang"]
    assert complete("lbctl", "config") == ["check", "show", "diff", "apply", "confirm"]
    assert complete("lbctl", "-o") == ["table", "json"]
    assert complete("lbctl", "plan", "--fail") == ["pangyo", "anyang"]


def test_completion_covers_every_verb_of_the_help(fake):
    text = run(fake, "--help").stdout
    verbs = re.findall(r"^  ([a-z]+) {2,}", text[text.index("Subcommands:"):], re.M)
    assert len(verbs) > 10
    script = run(fake, "completion", "bash").stdout
    assert set(verbs) == set(re.search(r'verbs="([^"]*)"', script).group(1).split())

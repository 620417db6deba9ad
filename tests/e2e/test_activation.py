"""A cold site: its servers hang until its hook wakes them. Traffic follows what becomes healthy, not the hook."""
import json
import signal
import sys
import textwrap

import pytest

from conftest import lab_name
from netlab import processes
from netlab.lab import Lab
from netlab.processes import wait_for
from netlab.topology import VIP4

COLD = "chuncheon"


@pytest.fixture(scope="module")
def lab():
    with Lab(lab_name("ac"), rtt_ms=5, failover={"ramp": "0s"}) as running:
        yield running


def site(lab, name):
    return next(s for s in lab.lbctl_json("sites") if s["name"] == name)


def events(lab, after=0):
    rows = [json.loads(line) for line in lab.lbctl("events", "--output", "json").stdout.splitlines()]
    return [row for row in rows if row["sequence"] > after]


def activations(lab, after=0):
    return [e["text"] for e in events(lab, after) if e["kind"] == "activation" or "activation" in e["text"]]


def with_hook(lab, hook):
    """The pool `web` has pangyo and the cold site alone; anyang serves `echo`, so that something is always alive."""
    head, *backends = lab.config_text().split("[[pool.backend]]\n")
    kept = [head]
    for i, block in enumerate(backends):
        of_web = i < len(backends) / 2
        if of_web and 'site = "anyang"' in block:
            kept[-1] += block.partition("[[pool]]")[1] + block.partition("[[pool]]")[2]
        else:
            kept.append(block)
    text = "[[pool.backend]]\n".join(kept)
    table = f'name = "{COLD}"\ndomain = ["lab", "{COLD}"]\ntier = "active"\n'
    assert table in text
    return text.replace(table, table.replace('"active"', '"cold"') + f"activation = {{ {hook} }}\n")


def pids(lab):
    status = lab.status()["processes"]
    return [p["pid"] for n, p in status.items() if n.startswith(f"nginx@{COLD}-")]


def sleep_site(lab):
    """Its hosts are there, its servers answer nothing."""
    for pid_name in [n for n in lab.status()["processes"] if n.startswith(f"nginx@{COLD}-")]:
        lab.signal(pid_name, signal.SIGSTOP)
    wait_for(f"{COLD} dark", lambda: site(lab, COLD)["verdict"] == "dark", 20)


def served_by(lab):
    try:
        return lab.request(VIP4, timeout=2).site
    except OSError:
        return None


def run_once(lab, hook, said):
    original = lab.config_text()
    lab.write_config(with_hook(lab, hook))
    lab.lbctl("reload")
    sleep_site(lab)
    mark = max(e["sequence"] for e in events(lab))
    lab.darken("pangyo")
    try:
        wait_for(f"traffic at {COLD}", lambda: served_by(lab) == COLD, 30)
    except RuntimeError as error:
        raise AssertionError([e["text"] for e in events(lab, mark)]) from error
    wait_for("the hook's end", lambda: any("done" in t for t in activations(lab, mark)), 10)
    told = activations(lab, mark)
    assert len(told) == 2 and said in told[1], told
    failed = next(i["number"] for i in lab.lbctl_json("incidents") if i["site"] == "pangyo" and "closed" not in i)
    in_incident = [line["text"] for line in lab.lbctl_json("incidents", str(failed))["lines"] if line["kind"] == "activation"]
    assert in_incident == told
    # While the need lasts, and after a restart of the control process, it is not run again.
    lab.restart("control")
    wait_for("adopted", lambda: any(e["kind"] == "adopted" for e in events(lab, mark)), 15)
    wait_for("verdicts after the restart", lambda: site(lab, COLD)["verdict"] in ("healthy", "recovering"), 15)
    assert activations(lab, mark) == told
    lab.restore("pangyo")
    wait_for("traffic back at pangyo", lambda: served_by(lab) == "pangyo", 30)
    assert activations(lab, mark) == told
    lab.write_config(original)


def test_a_command_wakes_a_cold_site_once(lab):
    script = "echo waking " + " ".join(map(str, pids(lab))) + "; kill -CONT " + " ".join(map(str, pids(lab)))
    run_once(lab, f'command = ["/bin/sh", "-c", "{script}"], deadline = "20s"', "exit status 0: waking")


def test_a_request_wakes_a_cold_site_once(lab):
    lab.signal("control", signal.SIGTERM)
    wait_for("control gone", lambda: not lab.alive("control"), 10)
    (lab.dir / "control" / "activations").unlink()  # the need of the test before has not ended for ten minutes
    lab.restart("control")
    server = textwrap.dedent(f"""
        import http.server, json, os, signal
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for pid in {pids(lab)}:
                    os.kill(pid, signal.SIGCONT)
                body = f"woke {{asked['site']}} for {{asked['pop']}}".encode()
                self.send_response(202)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
        http.server.HTTPServer(("127.0.0.1", 8123), Handler).serve_forever()
    """)
    process = lab.popen("pop", [sys.executable, "-c", server])
    wait_for("the hook's server", lambda: processes.listening(process.pid, 8123), 20)
    run_once(lab, 'url = "http://127.0.0.1:8123/wake", deadline = "20s"', f"HTTP status 202: woke {COLD} for lab")

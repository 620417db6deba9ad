"""Load for tests: netlab-loadgen in a lab's client, and what its connections met."""
import json
import signal
import subprocess
from contextlib import contextmanager

from netlab.topology import VIP4, VIP6


class Load:
    """What the generator logged, once it has stopped."""

    def __init__(self):
        self.rows: list[dict] = []

    def of(self, *kinds: str) -> list[dict]:
        return [r for r in self.rows if r["kind"] in kinds]

    def failed(self, *kinds: str) -> list[dict]:
        """Connections that ended otherwise than well or by the generator's own stop."""
        return [r for r in self.of(*kinds) if r["result"] not in ("ok", "stopped")]


@contextmanager
def load(lab, *, rate: int = 0, long_lived: int = 0, options=()):
    """`rate` new connections a second and `long_lived` clients, for as long as the block runs."""
    path = lab.dir / "load.jsonl"
    command = [lab.program("netlab-loadgen"), "--target", f"{VIP4}:80", "--target", f"[{VIP6}]:80", "--out", str(path),
               "--source", "198.18.1.1", "--source", "2001:db8:c:1::1",
               "--new-rate", str(rate), "--long", str(long_lived), *options]
    process = lab.popen("client", command, stdout=subprocess.PIPE, text=True)
    result = Load()
    try:
        process.stdout.readline()  # the first report: it runs
        yield result
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0
    result.rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert result.rows

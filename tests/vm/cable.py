"""A cable for a NIC with several queues: two TAP interfaces of the emulator's, bridged in a namespace of their own.

The emulator's own hubs have one queue. A TAP with several gives each flow the queue that the emulated NIC's hash chooses.
"""
import os
import subprocess


class Cable:
    NIC, OTHER = "nic", "other"

    def __init__(self):
        self.namespace = f"vm{os.getpid()}"
        self._run("ip", "netns", "add", self.namespace)
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        # Nothing of this kernel's own on the wire, and nothing learnt: a frame goes to the other end.
        self._inside("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        self._inside("ip", "link", "add", "hub", "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
        for name, queues in ((self.NIC, ["multi_queue"]), (self.OTHER, [])):
            self._inside("ip", "tuntap", "add", name, "mode", "tap", "vnet_hdr", *queues)
            self._inside("ip", "link", "set", name, "master", "hub", "up")
        self._inside("ip", "link", "set", "hub", "up")

    def _inside(self, *words: str) -> None:
        self._run("ip", "netns", "exec", self.namespace, *words)

    @staticmethod
    def _run(*words: str) -> None:
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")

    def command(self, words: list[str]) -> list[str]:
        """`words`, run where the cable is."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def close(self) -> None:
        subprocess.run(["ip", "netns", "del", self.namespace], capture_output=True)

"""Runs inside the virtual machine: the shipped programs on a NIC of their own, once for each kind of NIC.

    guest_main.py BUILD KERNEL_FOLDER

One line for each case on standard output, `ok NAME` or `FAILED NAME: why`. Lines `vm: NAME on|off` ask the other side
to plug the cable of a NIC, or to pull it.
"""
import os
import subprocess
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from guest_cases import CASES, CASES_OF_QUEUES  # noqa: E402
from guest_network import (HOST, HOST6, ROUTER, ROUTER6, SITES, VIPS, ECHO_PORT, Cable, batch, build_hosts,  # noqa: E402
                           give_to_vfio, interface_of, load_modules, sysctl, wait_for, write)

# Name, address under test, address of the router's end, workers; the emulator's arguments are in run_vm.py.
NICS = (("e1000e", "0000:00:05.0", "0000:00:06.0", 1), ("virtio", "0000:00:07.0", "0000:00:08.0", 1),
        ("virtio2", "0000:00:09.0", "0000:00:0a.0", 2))
FOLDER = "/run/detour"


def config(port: str) -> str:
    def pool(name: str, vips: list[str], encap: str) -> str:
        listed = ", ".join(f'"[{v}]:{ECHO_PORT}/tcp"' if ":" in v else f'"{v}:{ECHO_PORT}/tcp"' for v in vips)
        backends = "".join(f'[[pool.backend]]\nsite = "{site}"\naddress = "{address}"\n'
                           for site, (address, _) in SITES.items())
        return (f'[[pool]]\nname = "{name}"\nvip = [{listed}]\nencap = "{encap}"\n'
                f'health = {{ type = "tcp", port = {ECHO_PORT}, interval = "1s", timeout = "1s", '
                f'fast_interval = "300ms", fall = 3, rise = 1 }}\n{backends}')

    sites = "".join(f'[[site]]\nname = "{site}"\ndomain = ["vm", "{site}"]\n' for site in SITES)
    return (f'[pop]\nname = "vm"\nfleet_seed = "a seed of the virtual machine, not for production"\n'
            f'[dataplane]\nports = ["{port}"]\nsource = ["{HOST}"]\nflows_per_worker = 16384\n'
            f'socket = "{FOLDER}/dataplane.sock"\nstate_dir = "{FOLDER}/dataplane"\n'
            f'[control]\nsocket = "{FOLDER}/control.sock"\nstate_dir = "{FOLDER}/control"\n'
            f'[failover]\nramp = "1s"\nstrand_after = "5s"\n{sites}'
            f'{pool("ipip", [VIPS["ipip"]], "ipip")}{pool("gue", [VIPS["gue"], VIPS["v6"]], "gue")}')


class Pop:
    """The PoP's host: detour-dataplane on the NIC, detour-control beside it."""

    def __init__(self, build: str, name: str, port: str, cable: Cable, workers: int):
        self.build, self.name, self.port, self.cable, self.workers = build, name, port, cable, workers
        self.processes: list[subprocess.Popen] = []
        self.baseline = 0

    def start(self) -> None:
        os.makedirs(f"{FOLDER}/dataplane", exist_ok=True)
        os.makedirs(f"{FOLDER}/control", exist_ok=True)
        write(f"{FOLDER}/detour.toml", config(self.port))
        give_to_vfio(self.port)
        self.cable.connect()
        self.spawn("detour-dataplane", "dataplane/detour-dataplane", "--port", self.port, "--workers",
                   str(self.workers), "--flows-per-worker", "16384",
                   "--socket", f"{FOLDER}/dataplane.sock", "--state-dir", f"{FOLDER}/dataplane", "--release")
        wait_for("detour-dataplane forwards", lambda: "ready:" in self.log("detour-dataplane"), 120)
        sysctl(None, ipv6__conf__detour0__accept_dad=0, ipv6__conf__detour0__accept_ra=0)
        batch(None, f"addr add {HOST}/24 dev detour0", f"addr add {HOST6}/64 dev detour0",
              f"route add default via {ROUTER}", f"route add default via {ROUTER6}")
        self.spawn("detour-control", "control/detour-control", "--config", f"{FOLDER}/detour.toml")

    def spawn(self, name: str, program: str, *arguments: str) -> None:
        log = open(self.log_path(name), "ab")
        self.processes.append(subprocess.Popen([f"{self.build}/{program}", *arguments], stdout=log, stderr=log))
        log.close()

    def log_path(self, name: str) -> str:
        return f"/run/out/{self.name}-{name}.log"

    def log(self, name: str) -> str:
        with open(self.log_path(name)) as file:
            return file.read()

    def lbctl(self, *arguments: str) -> str:
        done = subprocess.run([f"{self.build}/tools/lbctl/lbctl", *arguments, "--socket", f"{FOLDER}/control.sock"],
                              capture_output=True, text=True)
        return done.stdout

    def metric(self, name: str, label: str = "") -> dict[str, float]:
        """Samples by worker, of those whose labels hold `label`."""
        text = subprocess.run(["curl", "-s", "--unix-socket", f"{FOLDER}/control.sock", "http://detour/metrics"],
                              capture_output=True, text=True).stdout
        found: dict[str, float] = {}
        for line in text.splitlines():
            if line.startswith(name + "{") and label in line:
                worker = line.split('worker="')[1].split('"')[0]
                found[worker] = found.get(worker, 0) + float(line.split()[-1])
        return found

    def stop(self) -> None:
        codes = {}
        for process in reversed(self.processes):
            process.terminate()
            codes[process.args[0].rsplit("/", 1)[1]] = process.wait(timeout=60)
        self.cable.disconnect()
        assert all(code == 0 for code in codes.values()), f"exit codes {codes}"


def serve(build: str) -> list[subprocess.Popen]:
    """The sites' servers, and one on the host itself that stands for sshd."""
    program = f"{build}/tools/netlab/netlab-echo"
    served = [subprocess.Popen([program, "--banner", "host", "--tcp", "0.0.0.0:22"])]
    for site in SITES:
        served.append(subprocess.Popen(["ip", "netns", "exec", site, program, "--banner", site, "--tcp",
                                        f"0.0.0.0:{ECHO_PORT}", "--tcp", f"[::]:{ECHO_PORT}"]))
    return served


def run_cases(pop: Pop) -> int:
    failed = 0
    cases = CASES if pop.workers == 1 else CASES_OF_QUEUES
    for case in (Pop.start, *cases, Pop.stop):
        name = f"{pop.name}::{case.__name__}"
        begun = time.monotonic()
        try:
            case(pop)
            print(f"ok {name} ({time.monotonic() - begun:.1f} s)", flush=True)
        except Exception as error:  # noqa: BLE001: the next case still runs, and the text goes to the report
            failed += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"FAILED {name}: {error or type(error).__name__} ({where.name}:{where.lineno}, "
                  f"{time.monotonic() - begun:.1f} s)", flush=True)
            if case is Pop.start:
                break
    return failed


def main(build: str, kernel_folder: str) -> int:
    batch(None, "link set lo up")
    # The NICs under test first, so that the kernel's driver does not take them.
    subprocess.run(["modprobe", "-d", kernel_folder, "vfio-pci"], check=True)
    for _, port, _, _ in NICS:
        give_to_vfio(port)
    load_modules(kernel_folder)
    build_hosts()
    cables = [Cable(interface_of(other)) for _, _, other, _ in NICS]
    servers = serve(build)
    failed = 0
    for (name, port, _, workers), cable in zip(NICS, cables):
        failed += run_cases(Pop(build, name, port, cable, workers))
    for server in servers:
        server.kill()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))

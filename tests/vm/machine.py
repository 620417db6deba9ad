"""A virtual machine in software emulation: Debian's unmodified kernel, this machine's file system, emulated NICs.

The root of the guest is a 9p mount of the host's own "/", read only, below a tmpfs overlay: every program of this
machine and of the build folder is there, and nothing that the guest writes stays. The one folder that it shares back
is `out`. The kernel comes from Debian's package, unpacked by tools/setup.
"""
import json
import shutil
import socket
import subprocess
from pathlib import Path

KERNEL_FOLDER = Path("/var/cache/detour/linux-image-amd64")
BUSYBOX = Path("/bin/busybox")
BOOT_MODULES = ("virtio_pci", "9p", "9pnet_virtio", "overlay")
INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /lower /rw /new
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module || echo "vm: no $module"; done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro root /lower || exec sh
mount -t tmpfs -o size=1g tmpfs /rw
mkdir -p /rw/upper /rw/work
mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /new
for place in proc sys dev; do mount --move /$place /new/$place; done
mount -t tmpfs tmpfs /new/run
mount -t tmpfs tmpfs /new/tmp
mkdir -p /new/run/out /new/dev/pts /new/dev/shm /new/run/netns
mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288 out /new/run/out
exec switch_root /new /bin/sh /run/out/start
"""
START = """export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t bpf bpf /sys/fs/bpf
/bin/sh -c '{command}' </dev/null
echo $? >/run/out/status
sync
echo "vm: done"
echo o >/proc/sysrq-trigger
read forever </dev/zero
"""


class VmError(Exception):
    """The text says what is wrong with the machine, not with what it was to test."""


def kernel() -> tuple[Path, str]:
    """The kernel's file and its release."""
    files = sorted((KERNEL_FOLDER / "boot").glob("vmlinuz-*"))
    if not files:
        raise VmError(f"no kernel in {KERNEL_FOLDER}: run tools/setup")
    return files[-1], files[-1].name.removeprefix("vmlinuz-")


def modules(release: str) -> list[Path]:
    """What the initial file system has to load, in order."""
    paths: list[Path] = []
    for name in BOOT_MODULES:
        text = subprocess.run(["modprobe", "-S", release, "-d", str(KERNEL_FOLDER), "--show-depends", name],
                              capture_output=True, text=True, check=True).stdout
        for line in text.splitlines():
            path = Path(line.split()[1]).resolve()
            if line.startswith("insmod ") and path not in paths:
                paths.append(path)
    return paths


def make_initramfs(folder: Path, release: str) -> Path:
    """busybox, the modules and INIT, packed."""
    root = folder / "initramfs"
    (root / "bin").mkdir(parents=True)
    (root / "modules").mkdir()
    shutil.copy(BUSYBOX, root / "bin" / "busybox")
    order = modules(release)
    for path in order:
        shutil.copy(path, root / "modules" / path.name)
    (root / "modules" / "order").write_text("\n".join(path.name for path in order) + "\n")
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in root.rglob("*"))
    packed = folder / "initramfs.cpio"
    with open(packed, "wb") as sink:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=root, input=names.encode(), stdout=sink, check=True)
    return packed


class Machine:
    """Runs `command` in the guest; `folder` is ours, `folder`/out is shared with it."""

    def __init__(self, folder: Path, command: str, devices: list[str], where=lambda words: words):
        """`where` makes the emulator's command one that runs in another namespace."""
        self.folder = folder
        self.out = folder / "out"
        self.out.mkdir(parents=True)
        (self.out / "start").write_text(START.format(command=command))
        file, release = kernel()
        initramfs = make_initramfs(folder, release)
        words = ["qemu-system-x86_64", "-machine", "q35,kernel-irqchip=split", "-cpu", "max", "-smp", "2", "-m", "2560",
                 "-accel", "tcg,thread=multi,tb-size=512", "-nodefaults", "-no-user-config", "-display", "none",
                 "-no-reboot", "-serial", "stdio", "-kernel", str(file), "-initrd", str(initramfs),
                 "-append", "console=ttyS0 intel_iommu=on iommu=nopt mitigations=off tsc=reliable panic=-1 quiet",
                 "-device", "intel-iommu,intremap=on,caching-mode=on,device-iotlb=on",
                 "-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
                 "-device", "virtio-9p-pci,fsdev=root,mount_tag=root",
                 "-fsdev", f"local,id=out,path={self.out},security_model=none",
                 "-device", "virtio-9p-pci,fsdev=out,mount_tag=out", *devices]
        self._monitor = folder / "qmp"
        words += ["-qmp", f"unix:{self._monitor},server=on,wait=off"]
        self._process = subprocess.Popen(where(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT)

    def set_link(self, device: str, state: str) -> None:
        """Plugs the cable of a NIC, by its id, or pulls it."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(20)
            monitor.connect(str(self._monitor))
            replies = monitor.makefile("r")
            replies.readline()
            for command in ({"execute": "qmp_capabilities"},
                            {"execute": "set_link", "arguments": {"name": device, "up": state == "on"}}):
                monitor.sendall(json.dumps(command).encode())
                while "return" not in (reply := json.loads(replies.readline())):
                    if "error" in reply:
                        raise VmError(f"set_link {device} {state}: {reply['error']['desc']}")

    def follow(self, tell) -> None:
        """Until the machine is off; each line of its console goes to `tell`."""
        for line in self._process.stdout:
            tell(line.decode(errors="replace").rstrip())
        self._process.wait()

    def status(self) -> int:
        """Of the command. VmError when the machine ended without one."""
        try:
            return int((self.out / "status").read_text())
        except (OSError, ValueError):
            raise VmError("the machine ended before its command did") from None

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._process.stdout.close()

"""From a running clone's QEMU to a command line that does the same with nothing around it.

The floor (`floor.py`) and the cold boot start QEMU by plain command lines with paths. Both are made
here from what the product itself runs, so that all differences in time are the product's doing:
same machine, devices, accelerator and sandbox, same memory file and disks. What has to differ:
descriptors become paths, the TAPs are found by name in a namespace of the bench's own, and the
floor's sandbox allows new processes because `floor.py` loads the state through `exec:cat`.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess

from service import ROOT, Failure

FLOOR = ROOT / "tests/bench/floor.py"
GUEST_SOURCE = ROOT / "crates/guest/src/guest.rs"
# crates/guest-protocol/src/message.rs; each TAP: host's address, guest's address,
# guest's MAC address.
TAPS = {
    "app0": ("192.168.241.1/30", "192.168.241.2", "02:48:45:41:52:01"),
    "ctl0": ("169.254.254.1/30", "169.254.254.2", "02:48:45:41:52:02"),
}
HOST_MAC = "02:48:45:41:52:fe"
APP_ADDRESS = TAPS["app0"][1]
AGENT_ADDRESS = TAPS["ctl0"][1] + ":1024"


def ip(*arguments: str):
    subprocess.run(["ip", *arguments], check=True, timeout=30)


class Network:
    """A network namespace like a microVM's (crates/host-net/src/namespace.rs), with TAPs that
    QEMU opens by name."""

    def __init__(self):
        self.name = f"hearth-bench-{os.getpid()}"

    def __enter__(self):
        ip("netns", "add", self.name)
        try:
            for scope in ("all", "default"):
                command = f"echo 1 > /proc/sys/net/ipv6/conf/{scope}/disable_ipv6"
                subprocess.run(["ip", "netns", "exec", self.name, "sh", "-c", command], check=True, timeout=30)
            ip("-n", self.name, "link", "set", "lo", "up")
            for tap, (address, guest, mac) in TAPS.items():
                ip("-n", self.name, "tuntap", "add", tap, "mode", "tap", "vnet_hdr")
                ip("-n", self.name, "link", "set", tap, "address", HOST_MAC, "up")
                ip("-n", self.name, "address", "add", address, "dev", tap)
                ip("-n", self.name, "neighbour", "add", guest, "lladdr", mac, "dev", tap)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        ip("netns", "delete", self.name)

    def run(self, command: list[str], timeout: float) -> str:
        """Runs a command inside; its output. Whatever it has started ends with it."""
        command = ["ip", "netns", "exec", self.name, *command]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        try:
            output, _ = process.communicate(timeout=timeout)
        finally:
            try:
                os.killpg(process.pid, 9)
            except ProcessLookupError:
                pass
            process.wait()
        if process.returncode != 0:
            raise Failure(f"`{' '.join(command[:7])} …` ended with status {process.returncode}")
        return output


class CloneCommand:
    """The command line of a clone's QEMU with paths for descriptors, and copies of its fresh
    overlay to run on."""

    def __init__(self, pid: int, data_dir: pathlib.Path, directory: pathlib.Path):
        self.directory = directory
        arguments = pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
        self._resolve(pid, data_dir)
        self.state = self.memory.parent / "device-state"
        self.overlay, self.qmp = directory / "overlay", directory / "qmp.sock"
        self.program, self.options = arguments[0], self._translate(arguments[1:])

    def _resolve(self, pid: int, data_dir: pathlib.Path):
        """Finds the clone's files among its descriptors. QEMU renumbers those of disks, so
        the places decide."""
        links = {pathlib.Path(os.readlink(link)) for link in pathlib.Path(f"/proc/{pid}/fd").iterdir()}
        images = {path for path in links if path.is_relative_to(data_dir / "snapshots")}
        own = {path for path in links if path.is_relative_to(data_dir / "microvms")}
        memory = {path for path in images if path.name == "memory"}
        try:
            (self.memory,), (self.disk,), (self.clone_overlay,) = memory, images - memory, own
        except ValueError:
            raise Failure(f"the files of QEMU process {pid} are not as expected: {sorted(map(str, links))}") from None

    def _translate(self, arguments: list[str]) -> list[list[str]]:
        """Pairs of option and value. TAPs stand in the order of `TAPS`, as in the product."""
        options, taps = [], iter(TAPS)
        rest = iter(arguments)
        for name in rest:
            if name in ("-no-user-config", "-nodefaults", "-no-reboot", "-no-shutdown", "-S"):
                options.append([name])
                continue
            value = next(rest)
            if name == "-add-fd":
                continue
            if name == "-blockdev":
                value = json.dumps(self._with_paths(json.loads(value)))
            elif name == "-netdev":
                value = re.sub(r"fd=\d+", f"ifname={next(taps)},script=no,downscript=no", value)
            elif name == "-chardev" and value.startswith("socket,id=qmp"):
                value = f"socket,id=qmp,path={self.qmp},server=on,wait=off"
            elif name == "-object" and "id=ram" in value:
                value = re.sub(r"mem-path=[^,]*", f"mem-path={self.memory}", value)
            options.append([name, value])
        return options

    def _with_paths(self, node: dict) -> dict:
        if node["driver"] == "file":
            return {**node, "filename": str(self.disk if node["read-only"] else self.overlay)}
        return {key: self._with_paths(value) if key in ("file", "backing") else value for key, value in node.items()}

    def option(self, name: str) -> str:
        """The value of an option that is there once."""
        return next(option[1] for option in self.options if option[0] == name)

    def keep_empty_overlay(self):
        """Makes the overlay that each run gets a copy of. As the product's, it does
        not name its base."""
        size = self.disk.stat().st_size
        command = ["qemu-img", "create", "-q", "-f", "qcow2", str(self.directory / "empty.qcow2"), str(size)]
        subprocess.run(command, check=True, timeout=60)

    def fresh_overlay(self):
        shutil.copyfile(self.directory / "empty.qcow2", self.overlay)

    def restore(self) -> list[str]:
        """For `floor.py`."""
        options = [
            [name, value[0].replace(",spawn=deny", "")] if name == "-sandbox" else [name, *value]
            for name, *value in self.options
        ]
        return [self.program, *(text for option in options for text in option)]

    def boot(self, guest_directory: pathlib.Path, initrd: pathlib.Path) -> list[str]:
        """For the cold boot: the same machine with empty RAM of its own, a kernel,
        and nobody on QMP."""
        options = []
        for name, *value in self.options:
            if name in ("-S", "-incoming", "-mon") or (name == "-chardev" and "id=qmp" in value[0]):
                continue
            if name == "-object" and "id=ram" in value[0]:
                size = re.search(r"size=\d+M", value[0])[0]
                value = [f"memory-backend-ram,id=ram,{size},reserve=off"]
            options.append([name, *value])
        options += [["-kernel", str(guest_directory / "vmlinuz")], ["-initrd", str(initrd)], ["-append", boot_arguments()]]
        return [self.program, *(text for option in options for text in option)]


def boot_arguments() -> str:
    """The product's kernel command line, from its source: no running process has it when
    the image is cached."""
    literal = re.search(r'const BOOT_ARGS: &str = "(.*?)";', GUEST_SOURCE.read_text(), re.DOTALL)
    if literal is None:
        raise Failure(f"{GUEST_SOURCE} has no BOOT_ARGS any more; the cold boot needs them")
    return re.sub(r"\\\n\s*", "", literal[1])

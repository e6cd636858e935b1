"""What is measured of one image: the floor and the microVMs in turn, cold boots,
memory and disk."""
import json
import os
import pathlib
import re
import subprocess
import sys
import time

from floor_command import AGENT_ADDRESS, APP_ADDRESS, FLOOR, CloneCommand, Network
from service import CACHE, App, Failure, Service

COLD_BOOT = pathlib.Path(__file__).with_name("cold_boot.py")
FLOOR_TIMEOUT_SECONDS = 120
COLD_BOOT_TIMEOUT_SECONDS = 600
# Clones are looked at once they have come to rest after their request.
SETTLE_SECONDS = 2


class Stopwatch:
    """Milliseconds between laps."""

    def __init__(self):
        self.last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        elapsed, self.last = (now - self.last) * 1000, now
        return round(elapsed, 1)


def say(text: str):
    print(text, file=sys.stderr, flush=True)


class ImageBench:
    """The measurements of one image. `samples` is what goes into the JSON file."""

    def __init__(self, service: Service, app: App, image: str, directory: pathlib.Path):
        self.service, self.app, self.image = service, app, image
        self.samples = {"cold_boot": [], "floor": [], "microvm": [], "memory": []}
        self.url = f"http://{APP_ADDRESS}:{app.port}{app.path}"
        microvm = self.launch()[0]
        self.clone = CloneCommand(self.pid(microvm), service.data_dir, directory)
        service.terminate(microvm)
        self.clone.keep_empty_overlay()

    # The product.

    def launch(self) -> tuple[dict, str, dict]:
        """RunMicrovm until the first 200: the microVM, a token for it, the times."""
        watch, app = Stopwatch(), self.app
        microvm = self.service.run(self.image)
        run = watch.lap()
        token = self.service.token(microvm, app.port)
        made = watch.lap()
        self.service.get(microvm, token, app.port, app.path)
        first = watch.lap()
        return microvm, token, {"run": run, "token": made, "first_http": first, "total": round(run + made + first, 1)}

    def pid(self, microvm: dict) -> int:
        record = self.service.data_dir / "run" / microvm["microvmId"] / "vmm.json"
        return json.loads(record.read_text())["process"]["pid"]

    def life(self) -> dict:
        """One microVM: launched, suspended and woken; if its app can, again with 64 MiB changed."""
        microvm, token, launch = self.launch()
        sample = {"launch": launch, "second_http_ms": self.request(microvm, token, self.app.path)}
        sample["small"] = self.sleep_and_wake(microvm, token)
        if self.app.touch:
            self.service.get(microvm, token, self.app.port, self.app.touch)
            sample["touched_64_mib"] = self.sleep_and_wake(microvm, token)
        self.service.terminate(microvm)
        return sample

    def request(self, microvm: dict, token: str, path: str) -> float:
        watch = Stopwatch()
        self.service.get(microvm, token, self.app.port, path)
        return watch.lap()

    def sleep_and_wake(self, microvm: dict, token: str) -> dict:
        pid = self.pid(microvm)
        changed = changed_ram_bytes(pid, self.clone.memory)
        watch = Stopwatch()
        self.service.suspend(microvm)
        suspend_ms = watch.lap()
        if os.path.exists(f"/proc/{pid}"):
            raise Failure(f"{microvm['microvmId']} is SUSPENDED but its process {pid} is there")
        disk = self.disk(microvm)
        resume_ms = self.request(microvm, token, self.app.path)
        return {"suspend_ms": suspend_ms, "resume_ms": resume_ms, "changed_ram_bytes": changed, **disk}

    def disk(self, microvm: dict) -> dict:
        """What a suspended microVM takes on disk, and what its guest has written to
        its own disk."""
        directory = self.service.data_dir / "microvms" / microvm["microvmId"]
        snapshots = (directory / "snapshot.json", self.service.data_dir / "snapshots")
        own = [path for path in snapshots[1].iterdir() if (path / "manifest.json").samefile(snapshots[0])]
        # The disk is one file under two names, while it rests.
        files = [file for part in (directory, *own) for file in part.iterdir() if file.is_file()]
        allocated = {file.name: file.stat().st_blocks * 512 for file in files}
        overlay = next(file for file in directory.rglob("*.qcow2"))
        command = ["qemu-img", "map", "--output=json", "-f", "qcow2", str(overlay)]
        extents = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60).stdout)
        changed = sum(extent["length"] for extent in extents if extent["data"])
        return {"disk_bytes": sum(allocated.values()), "changed_disk_bytes": changed, "files": allocated}

    # The floor and the cold boot.

    def floor(self, network: Network) -> dict:
        self.clone.fresh_overlay()
        command = [sys.executable, str(FLOOR), "--state", str(self.clone.state)]
        command += ["--qmp", str(self.clone.qmp), "--url", self.url, "--", *self.clone.restore()]
        return json.loads(network.run(command, FLOOR_TIMEOUT_SECONDS).splitlines()[0])

    def cold_boot(self, network: Network) -> dict:
        self.clone.fresh_overlay()
        command = [sys.executable, str(COLD_BOOT), "--agent", AGENT_ADDRESS, "--app", json.dumps(self.app.start_spec())]
        command += ["--url", self.url, "--", *self.clone.boot(CACHE / "guest/1", CACHE / "initrd.img")]
        return json.loads(network.run(command, COLD_BOOT_TIMEOUT_SECONDS))

    # The series.

    def measure_times(self, network: Network, runs: int, cold_boots: int):
        """Floor and product take turns, also in who comes first. The first pair warms the caches
        and does not count."""
        for run in range(-1, runs):
            load = os.getloadavg()[0]
            steps = [("floor", lambda: self.floor(network)), ("microvm", self.life)]
            for kind, step in steps if run % 2 == 0 else reversed(steps):
                sample = {**step(), "load_average": load}
                if run >= 0:
                    self.samples[kind].append(sample)
            if run >= 0:
                say(f"  {self.app.key} {run + 1}/{runs}: {self.one_line()}")
        for number in range(cold_boots):
            sample = {**self.cold_boot(network), "load_average": os.getloadavg()[0]}
            self.samples["cold_boot"].append(sample)
            say(f"  {self.app.key} cold boot {number + 1}/{cold_boots}: {sample['total']:.0f} ms")

    def one_line(self) -> str:
        floor, life = self.samples["floor"][-1], self.samples["microvm"][-1]
        parts = [f"floor {floor['total']:.0f}, launch {life['launch']['total']:.0f}"]
        for name in ("small", "touched_64_mib"):
            if name in life:
                parts.append(f"suspend {life[name]['suspend_ms']:.0f}, wake {life[name]['resume_ms']:.0f}")
        return "; ".join(parts) + f" ms; load {floor['load_average']:.1f}"

    def measure_memory(self, counts: list[int]):
        """Launches clones up to each count and looks at all of them."""
        microvms, before = [], available_bytes()
        try:
            for count in sorted(counts):
                while len(microvms) < count:
                    microvms.append(self.launch()[0])
                time.sleep(SETTLE_SECONDS)
                clones = [process_memory(self.pid(microvm), self.clone.memory) for microvm in microvms]
                sample = {"count": count, "available_before": before, "available_with": available_bytes(), "clones": clones}
                sample["server"] = process_memory(self.service.process.pid)
                self.samples["memory"].append(sample)
                say(f"  {self.app.key}: {count} clones run")
        finally:
            self.service.terminate(*microvms)


def available_bytes() -> int:
    text = pathlib.Path("/proc/meminfo").read_text()
    return int(re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024


def process_memory(pid: int, ram: pathlib.Path | None = None) -> dict:
    """Memory of a process in bytes (proc_pid_smaps(5)). `private` counts every page that no
    other process maps, also unchanged pages of files; `anonymous` only what would be lost
    with the process."""
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    kib = {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB", rollup, re.MULTILINE)}
    memory = {
        "private": (kib["Private_Dirty"] + kib["Private_Clean"]) * 1024,
        "proportional": kib["Pss"] * 1024,
        "anonymous": kib["Anonymous"] * 1024,
        "huge": kib["AnonHugePages"] * 1024,
    }
    return memory if ram is None else {**memory, "changed_ram": changed_ram_bytes(pid, ram)}


def changed_ram_bytes(pid: int, ram: pathlib.Path) -> int:
    """Guest memory that differs from the snapshot's file: anonymous pages in its
    private mapping."""
    inside, total = False, 0
    with open(f"/proc/{pid}/smaps") as smaps:
        for line in smaps:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                inside = line.rstrip().endswith(str(ram))
            elif inside and line.startswith("Anonymous:"):
                total += int(line.split()[1]) * 1024
    return total

#!/usr/bin/env python3
"""The whole story on one machine: an image from examples/flask, three microVMs, one of them
put to sleep and woken.

usage: quickstart.py          (as root; `make quickstart` builds what it needs first)

Starts a server of its own on free ports with a data directory in the cache, so that the second run
finds the image. Does everything as a user would, through the command `hearth` and, once, plain
curl. Ends with a table of times; with status 1 and a sentence when something is not as claimed.
"""
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEARTH = pathlib.Path(os.environ.get("HEARTH_BIN", ROOT / "target/release/hearth"))
EXAMPLE = ROOT / "examples/flask"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "hearth"
DATA_DIR = CACHE / "quickstart"
SERVER_LOG = DATA_DIR / "server.log"
PORT = "5000"
# Under software emulation, on a machine that has other things to do, a first build can take
# a quarter of an hour.
BUILD_TIMEOUT_SECONDS = 45 * 60
WHOLE_TIMEOUT_SECONDS = 60 * 60

times: list[tuple[str, float]] = []


class Failure(Exception):
    """A sentence about what is not as it should be."""


def say(text: str) -> None:
    print(text, flush=True)


def claim(holds: bool, sentence: str) -> None:
    if not holds:
        raise Failure(f"not true: {sentence}")
    say(f"  ✓ {sentence}")


class Timer:
    """Measures a step and keeps the time for the table."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self):
        self.start = time.monotonic()

    def __exit__(self, kind, *_):
        if kind is None:
            times.append((self.name, time.monotonic() - self.start))


def hearth(*arguments: str, timeout: float = 120) -> str:
    """Runs a command of the command line; its output."""
    command = [str(HEARTH), *arguments, "--data-dir", str(DATA_DIR)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failure(f"`hearth {' '.join(arguments)}` took more than {timeout:.0f} s") from None
    if done.returncode != 0:
        raise Failure(f"`hearth {' '.join(arguments)}` ended with status {done.returncode}")
    return done.stdout


def hearth_json(*arguments: str) -> dict:
    return json.loads(hearth(*arguments, "--json"))


def start_server() -> subprocess.Popen:
    DATA_DIR.mkdir(parents=True, exist_ok=True)
    command = [HEARTH, "serve", "--data-dir", DATA_DIR, "--api-addr", "127.0.0.1:0", "--endpoint-addr", "127.0.0.1:0",
               "--on-stop", "suspend"]
    with open(SERVER_LOG, "w") as log:
        # A session of its own: Ctrl-C reaches this script alone, which then stops
        # the server in order.
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
    line = server.stdout.readline().strip()
    if not line.startswith("hearth ready"):
        server.wait(timeout=60)
        raise Failure("the server did not start: " + SERVER_LOG.read_text().strip().rsplit("\n", 1)[-1])
    say(f"{line}\n")
    return server


def stop_server(server: subprocess.Popen) -> int:
    server.terminate()
    try:
        return server.wait(timeout=60)
    except subprocess.TimeoutExpired:
        server.kill()
        raise Failure(f"the server did not stop within 60 s of SIGTERM; its log is {SERVER_LOG}") from None


def image_name() -> str:
    """Changes with the example's source and with the guest files, whose agent is
    part of the snapshot."""
    digest = hashlib.sha256((CACHE / "initrd.img").read_bytes())
    for file in sorted(EXAMPLE.iterdir()):
        if file.is_file() and file.name != "README.md":
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return f"flask-{digest.hexdigest()[:12]}"


def build(name: str) -> None:
    states = {item["name"]: item["state"] for item in hearth_json("images")["items"]}
    for old in states:
        if old != name and old.startswith("flask-"):
            hearth("image", "delete", old)
    if states.get(name) == "CREATED":
        say(f"The image {name} is there from an earlier run; its build is skipped.")
        return
    say(f"Building {EXAMPLE.relative_to(ROOT)}; this takes a few minutes the first time.")
    with Timer("image build"):
        hearth("image", "build", str(EXAMPLE), "--name", name, "--replace", timeout=BUILD_TIMEOUT_SECONDS)


def qemu_process(microvm: str) -> int | None:
    """The process that is the microVM: the QEMU that carries its id as its name."""
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and "qemu" in os.readlink(entry / "exe"):
                if microvm.encode() in (entry / "cmdline").read_bytes():
                    return int(entry.name)
        except OSError:
            continue  # It ended while we looked.
    return None


def private_mib(pid: int) -> float:
    """Memory that the process shares with nobody."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024


class Microvm:
    """One of the three."""

    def __init__(self, number: int, image: str):
        self.number = number
        with Timer(f"microVM {number}: run → first answer"):
            answer = hearth_json("run", image, "--idle", "600")
            self.id, self.endpoint = answer["microvmId"], answer["endpoint"]
            self.call("/")
        say(f"  {self.id} answers after {times[-1][1]:.2f} s")

    def call(self, path: str, *options: str) -> str:
        """A request to the app; any status but 2xx is a failure."""
        return hearth("curl", self.id, path, "-p", PORT, "--fail", *options)

    def leave_traces(self) -> None:
        for _ in range(self.number * 3):
            self.call("/counter", "-X", "POST")
        self.call("/file", "-X", "PUT", "-d", f"written in microVM {self.number}")

    def check_traces(self) -> None:
        counter = json.loads(self.call("/counter"))["counter"]
        text = self.call("/file")
        # The first answer after the launch was a visit too.
        wanted = (self.number * 3 + 1, f"written in microVM {self.number}")
        claim((counter, text) == wanted, f"microVM {self.number}: the counter is {counter}, the file says {text!r}")


def suspend_and_wake(microvm: Microvm) -> None:
    pid = qemu_process(microvm.id)
    claim(pid is not None, f"microVM {microvm.number} is QEMU process {pid} with {private_mib(pid):.0f} MiB of its own memory")
    token = hearth("token", microvm.id, "-p", PORT).strip()

    say(f"\nSuspending microVM {microvm.number}:")
    with Timer("suspend → SUSPENDED"):
        hearth("suspend", microvm.id, "--wait")
    claim(qemu_process(microvm.id) is None, "no QEMU process has its name any more")
    claim(not os.path.exists(f"/proc/{pid}"), f"process {pid} and with it all of its memory are gone")
    own = DATA_DIR / "microvms" / microvm.id
    [snapshot] = [path for path in (DATA_DIR / "snapshots").iterdir() if (path / "manifest.json").samefile(own / "snapshot.json")]
    files = {(file.stat().st_ino, file.stat().st_blocks) for part in (own, snapshot) for file in part.iterdir()}
    say(f"    it is now {sum(blocks for _, blocks in files) * 512 / 2**20:.1f} MiB on disk")

    say("\nA plain request wakes it:")
    command = ["curl", "--silent", "--show-error", "--fail", "--max-time", "60", "--cacert", str(DATA_DIR / "ca/ca.pem"),
               "-H", f"X-aws-proxy-auth: {token}", "-H", f"X-aws-proxy-port: {PORT}", f"https://{microvm.endpoint}/counter"]
    say(f"    curl --cacert … -H 'X-aws-proxy-auth: …' -H 'X-aws-proxy-port: {PORT}' {command[-1]}")
    with Timer("request to the suspended one → answer"):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    claim(done.returncode == 0, f"it answers {done.stdout.strip()}")
    claim(qemu_process(microvm.id) is not None, "it is a QEMU process again")
    microvm.check_traces()


def terminate_all() -> None:
    microvms = [item["microvmId"] for item in hearth_json("ps")["items"]]
    if microvms:
        hearth("terminate", "--wait", *microvms)


def story() -> None:
    name = image_name()
    terminate_all()  # What an interrupted run may have left.
    build(name)

    say("\nThree microVMs from one snapshot:")
    microvms = [Microvm(number, name) for number in (1, 2, 3)]
    say(hearth("ps"))

    say("Each counts in its own memory and writes its own file:")
    for microvm in microvms:
        microvm.leave_traces()
    for microvm in microvms:
        microvm.check_traces()
    suspend_and_wake(microvms[1])

    say("\nTerminating all:")
    with Timer("terminate three → TERMINATED"):
        terminate_all()
    claim(not any(qemu_process(microvm.id) for microvm in microvms), "none of them has a process")


def print_times() -> None:
    width = max(len(name) for name, _ in times)
    say("\n" + f"{'Step':<{width}}  Seconds")
    for name, seconds in times:
        say(f"{name:<{width}}  {seconds:7.2f}")


def interrupt(number: int, _frame) -> None:
    raise Failure("the whole took too long" if number == signal.SIGALRM else "interrupted")


def main() -> int:
    if not HEARTH.exists():
        print(f"{HEARTH} is missing: run `make build`", file=sys.stderr)
        return 1
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, interrupt)
    signal.alarm(WHOLE_TIMEOUT_SECONDS)
    server = None
    try:
        server = start_server()
        try:
            story()
        finally:
            terminate_all()
            status = stop_server(server)
        claim(status == 0, "the server stopped in order")
    except Failure as failure:
        if server and server.poll() is None:
            stop_server(server)
        print(f"quickstart: {failure}", file=sys.stderr)
        return 1
    print_times()
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""The floor: bare QEMU restores a snapshot and the app in it answers one request, with
nothing around them.

usage: floor.py --state FILE --qmp SOCKET --url URL -- QEMU [ARGUMENT ...]

QEMU is started paused, with `-incoming defer`, its QMP at SOCKET and its RAM mapped privately from
the snapshot's memory file. The device state is loaded (`migrate-incoming`; RAM that is shared with
a file is left where it is, capability `x-ignore-shared`), the CPUs are started, the app is asked.
Prints one JSON line: milliseconds of each step and in all.
"""
import argparse
import json
import pathlib
import shlex
import socket
import subprocess
import time
import urllib.request

CONNECT_SECONDS = 20
ANSWER_SECONDS = 30
POLL_SECONDS = 0.001


class Qmp:
    """The few commands of QEMU's machine protocol that a restore takes (QEMU:
    docs/interop/qmp-spec)."""

    def __init__(self, path: pathlib.Path):
        self.socket = connect(path)
        self.lines = self.socket.makefile("r")
        self.lines.readline()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        for line in self.lines:
            message = json.loads(line)
            if "error" in message:
                raise SystemExit(f"floor.py: QEMU refuses {command}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]
        raise SystemExit(f"floor.py: QEMU ended during {command}")

    def load(self, state: pathlib.Path):
        self.execute("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])
        self.execute("migrate-incoming", uri=f"exec:cat {shlex.quote(str(state))}")
        while self.execute("query-status")["status"] == "inmigrate":
            time.sleep(POLL_SECONDS)


def connect(path: pathlib.Path) -> socket.socket:
    """Waits for QEMU to listen."""
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        attempt = socket.socket(socket.AF_UNIX)
        try:
            attempt.connect(str(path))
            return attempt
        except OSError:
            attempt.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def ask(url: str):
    with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"floor.py: {url} answered {answer.status}")


def measure(command: list[str], state: pathlib.Path, qmp: pathlib.Path, url: str) -> dict[str, float]:
    qmp.unlink(missing_ok=True)
    times = [time.perf_counter()]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        monitor = Qmp(qmp)
        times.append(time.perf_counter())
        monitor.load(state)
        times.append(time.perf_counter())
        monitor.execute("cont")
        times.append(time.perf_counter())
        ask(url)
        times.append(time.perf_counter())
    finally:
        process.kill()
        process.wait()
    steps = dict(zip(("spawn", "load", "cont", "first_http"), zip(times, times[1:])))
    return {name: round((end - start) * 1000, 1) for name, (start, end) in (*steps.items(), ("total", (times[0], times[-1])))}


def main():
    parser = argparse.ArgumentParser(description="Bare QEMU from start to the app's first answer, once.")
    parser.add_argument("--state", type=pathlib.Path, required=True)
    parser.add_argument("--qmp", type=pathlib.Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.command, arguments.state, arguments.qmp, arguments.url)))


if __name__ == "__main__":
    main()

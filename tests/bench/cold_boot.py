#!/usr/bin/env python3
"""One cold boot: QEMU with kernel, initial RAM file system and the image's disk, until the app
answers its first request.

usage: cold_boot.py --agent ADDRESS:PORT --app APP_SPEC_JSON --url URL -- COMMAND...

Run inside the network namespace that has the TAPs, as `floor.py` is. Talks to the agent in the
frames of crates/guest-protocol (a big-endian length and JSON). Prints one JSON line, times in
milliseconds: `agent` until the agent answers, `app` until the app's process has been started,
`first_http` until its first 200, `total` of all.
"""
import argparse
import json
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request

TIMEOUT_SECONDS = 240
POLL_SECONDS = 0.01


def ask(address: tuple[str, int], request: dict, timeout: float) -> dict:
    with socket.create_connection(address, timeout=timeout) as connection, connection.makefile("rwb") as stream:
        body = json.dumps(request).encode()
        stream.write(struct.pack(">I", len(body)) + body)
        stream.flush()
        (length,) = struct.unpack(">I", stream.read(4))
        return json.loads(stream.read(length))


def answers(action) -> bool:
    try:
        action()
    except (OSError, struct.error, urllib.error.URLError):
        return False
    return True


def wait_until(action, process: subprocess.Popen, what: str):
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not answers(action):
        if process.poll() is not None:
            sys.exit(f"QEMU has ended with status {process.returncode} before {what}")
        if time.monotonic() > deadline:
            sys.exit(f"{what} took more than {TIMEOUT_SECONDS} s")
        time.sleep(POLL_SECONDS)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", required=True)
    parser.add_argument("--app", required=True, type=json.loads)
    parser.add_argument("--url", required=True)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    host, port = args.agent.split(":")
    agent = (host, int(port))

    times = [time.perf_counter()]
    process = subprocess.Popen(args.command, stdout=subprocess.DEVNULL)
    try:
        # A SYN sent before the guest listens is lost; a short timeout sends the next one soon.
        wait_until(lambda: ask(agent, {"op": "hello"}, timeout=0.2), process, "the agent's answer")
        times.append(time.perf_counter())
        reply = ask(agent, {"op": "start_app", "app": args.app}, timeout=TIMEOUT_SECONDS)
        if reply.get("reply") != "done":
            sys.exit(f"the agent did not start the app: {reply}")
        times.append(time.perf_counter())
        wait_until(lambda: urllib.request.urlopen(args.url, timeout=30).read(), process, "the app's answer")
        times.append(time.perf_counter())
    finally:
        process.kill()
        process.wait()
    steps = [round((end - begin) * 1000, 1) for begin, end in zip(times, times[1:])]
    print(json.dumps({**dict(zip(("agent", "app", "first_http"), steps)), "total": round(sum(steps), 1)}))


if __name__ == "__main__":
    main()

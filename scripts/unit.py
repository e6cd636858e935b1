#!/usr/bin/env python3
"""Runs the test binaries that cargo has built, two at a time, since many tests wait; those that took
longest the last time go first.

usage: unit.py MESSAGES    what `cargo test --no-run --message-format=json` printed
"""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import time

AT_A_TIME = 2


def binaries(messages: pathlib.Path) -> dict[str, tuple[str, dict]]:
    """Path and package of each test binary, by a name for people."""
    found = {}
    for line in messages.read_text().splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
            directory = pathlib.Path(message["manifest_path"]).parent
            target = message["target"]
            found[f"{directory.name} {target['kind'][0]} {target['name']}"] = message["executable"], directory
    return found


def run(program: str, directory: pathlib.Path) -> tuple[int, str, float]:
    """Status, output and seconds. Where and with what cargo would run it."""
    environment = {"RUST_TEST_THREADS": "4"} | os.environ | {
        "CARGO_MANIFEST_DIR": str(directory), "CARGO_PKG_NAME": f"hearth-{directory.name}"}
    began = time.monotonic()
    done = subprocess.run([program], cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace")
    return done.returncode, done.stdout, time.monotonic() - began


def main() -> int:
    messages = pathlib.Path(sys.argv[1])
    times_path = messages.with_suffix(".times")
    times = json.loads(times_path.read_text()) if times_path.exists() else {}
    tests = binaries(messages)
    assert tests, f"{messages} names no test binary"
    # One that is not known may take long.
    order = sorted(tests, key=lambda name: times.get(name, float("inf")), reverse=True)
    failed = []
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        runs = {pool.submit(run, *tests[name]): name for name in order}
        for ended in concurrent.futures.as_completed(runs):
            name, (status, output, times[runs[ended]]) = runs[ended], ended.result()
            if status:
                failed.append(name)
                print(output)
            print(f"{'FAILED' if status else 'passed'} {times[name]:6.1f} s  {name}", flush=True)
    times_path.write_text(json.dumps({name: times[name] for name in tests}))
    print(f"{len(tests)} test binaries, {len(failed)} failed{''.join(f'{chr(10)}  {name}' for name in failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

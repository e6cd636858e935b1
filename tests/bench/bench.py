#!/usr/bin/env python3
"""`make bench`: how fast and how small, against bare QEMU on the same artefacts.

usage: bench.py [--runs N] [--images perl,flask] [--clones 1,10,30] [--cold-boots N]
[--output FILE]     (as root)

Starts a server of its own with a data directory in the cache, so that the images are built once.
Per image, floor and product take turns; then cold boots (three are enough for a ratio of 20), then
memory at several numbers of clones. Prints tables and writes every sample to a JSON file. What is
measured how: README.md beside this file.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import tempfile

from floor_command import Network
from measure import ImageBench, say
from report import render
from service import APPS, CACHE, HEARTH, ROOT, Failure, Service

WHOLE_TIMEOUT_SECONDS = 2 * 3600


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="launches of floor and product each")
    parser.add_argument("--images", default="perl,flask", help=f"of {', '.join(APPS)}")
    parser.add_argument("--clones", default="1,10,30", help="numbers of clones to measure memory at; empty for none")
    parser.add_argument("--cold-boots", type=int, default=3)
    parser.add_argument("--output", type=pathlib.Path, help="JSON file [target/bench/DATE.json]")
    parser.add_argument("--data-dir", type=pathlib.Path, default=CACHE / "bench")
    args = parser.parse_args()
    args.images = [key for key in args.images.split(",") if key]
    args.clones = [int(count) for count in args.clones.split(",") if count]
    if unknown := set(args.images) - set(APPS):
        parser.error(f"unknown image: {', '.join(sorted(unknown))}")
    return args


def machine(bench: ImageBench) -> dict:
    """What the figures depend on."""
    text = lambda *command: subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=30).stdout
    model = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "CPU": model[1] if model else platform.machine(),
        "CPUs": os.cpu_count(),
        "memory GiB": round(memory_bytes / 2**30, 1),
        "kernel": platform.release(),
        "QEMU": re.search(r"version ([\d.]+)", text(bench.clone.program, "--version"))[1],
        "accelerator": bench.clone.option("-accel").split(",")[0],
        "guest": f"{bench.clone.option('-smp').split(',')[0]} -m {bench.clone.option('-m')}",
        "commit": text("git", "describe", "--always", "--dirty").strip(),
    }


def measure(args: argparse.Namespace, service: Service, network: Network, directory: pathlib.Path) -> dict:
    result = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "images": {}}
    images = {key: service.ensure_image(APPS[key]) for key in args.images}
    for key, (image, build_seconds) in images.items():
        work = directory / key
        work.mkdir()
        bench = ImageBench(service, APPS[key], image, work)
        result.setdefault("machine", machine(bench))
        result["images"][key] = bench.samples
        bench.samples["build_seconds"] = build_seconds
        bench.measure_times(network, args.runs, args.cold_boots)
        bench.measure_memory(args.clones)
    return result


def interrupt(number: int, _frame):
    # Cleaning up is not to be interrupted by an impatient second Ctrl-C.
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise Failure("the whole took too long" if number == signal.SIGALRM else "interrupted")


def main() -> int:
    args = arguments()
    if not HEARTH.exists():
        print(f"bench: {HEARTH} is missing: run `make build`", file=sys.stderr)
        return 1
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, interrupt)
    signal.alarm(WHOLE_TIMEOUT_SECONDS)
    service = None
    try:
        with tempfile.TemporaryDirectory(prefix="hearth-bench-") as directory, Network() as network:
            service = Service(args.data_dir)
            try:
                result = measure(args, service, network, pathlib.Path(directory))
            finally:
                service.close()
    except Failure as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    output = args.output or ROOT / "target/bench" / f"{result['date'].replace(':', '')}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")
    print(render(result))
    say(f"\nAll samples: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

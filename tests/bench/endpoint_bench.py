#!/usr/bin/env python3
"""`make bench-endpoint`: the endpoints' proxy beside nginx and HAProxy.

usage: endpoint_bench.py [--seconds N] [--repeats N] [--hearth PROGRAM] [--output
FILE]     (as root)

All three do TLS 1.3 with an ECDSA P-256 certificate in front of the same plain HTTP/1.1 server in a
network namespace, with two threads each, and take turns in every case. Only Hearth checks a token;
all get it sent. Prints tables and writes every sample to a JSON file. What is measured how:
README.md beside this file.
"""
import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

from proxies import Haproxy, Hearth, Nginx, Upstream

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULT_HEARTH = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/examples/endpoint_bench"
GIB = 1 << 30
HOSTS = 1000


class H2load:
    """Requests by h2load (nghttp2), over both versions of HTTP."""

    def __init__(self, path: str, version: str, connections: int, seconds: float):
        self.path, self.version, self.connections, self.seconds = path, version, connections, seconds

    def __call__(self, proxy) -> dict:
        with tempfile.NamedTemporaryFile() as log:
            command = ["h2load", f"--connect-to=127.0.0.1:{proxy.port}", f"--duration={self.seconds:g}", "--warm-up-time=1",
                       f"--clients={self.connections}", f"--threads={min(2, self.connections)}", f"--log-file={log.name}",
                       f"--header=x-aws-proxy-auth: {proxy.token}"]
            command += ["--h1"] if self.version == "1.1" else ["--max-concurrent-streams=1"]
            before = proxy.cpu_seconds()
            out = run([*command, f"https://{proxy.host}{self.path}"])
            cpu = proxy.cpu_seconds() - before
            # The log holds the requests of the measured time: start, status, microseconds.
            times = sorted(int(line.rsplit("\t", 1)[1]) for line in pathlib.Path(log.name).read_text().splitlines())
        done = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed", out)
        assert done and done[1] == done[2] and done[3] == "0" and times, out
        return {"rate": len(times) / self.seconds, "median_us": times[len(times) // 2],
                "p99_us": times[int(len(times) * 0.99)],
                # The warm-up's requests are not in the log, but cost as much.
                "cpu_us": cpu * 1e6 / (len(times) * (self.seconds + 1) / self.seconds)}


class Transfer:
    """One GiB by curl."""

    def __init__(self, direction: str, version: str):
        self.direction, self.version = direction, version

    def __call__(self, proxy) -> dict:
        command = ["curl", "--silent", "--show-error", "--fail", "--insecure", f"--http{self.version}", "--output", "/dev/null",
                   "--write-out", "%{time_total} %{size_download} %{size_upload}", "--header",
                   f"x-aws-proxy-auth: {proxy.token}", "--resolve", f"{proxy.host}:{proxy.port}:127.0.0.1"]
        path = f"/bytes/{GIB}"
        if self.direction == "upload":
            command, path = [*command, "--upload-file", str(proxy.big_file), "--header", "expect:"], "/upload"
        before = proxy.cpu_seconds()
        seconds, down, up = run([*command, f"https://{proxy.host}:{proxy.port}{path}"]).split()
        assert int(up if self.direction == "upload" else down) == GIB
        return {"rate": GIB / float(seconds) / (1 << 20), "cpu_us": (proxy.cpu_seconds() - before) * 1e6 / 1024}


class Load:
    """What examples/endpoint_bench measures by itself."""

    def __init__(self, program: pathlib.Path, kind: str, connections: int, seconds: float):
        self.program, self.kind, self.connections, self.seconds = program, kind, connections, seconds

    def __call__(self, proxy) -> dict:
        before = proxy.cpu_seconds()
        found = json.loads(run([self.program, "load", self.kind, f"127.0.0.1:{proxy.port}", proxy.hosts_file,
                                str(self.connections), f"{self.seconds:g}"]))
        return {"rate": found["per_second"], "median_us": found["median_us"], "p99_us": found["p99_us"],
                "cpu_us": (proxy.cpu_seconds() - before) * 1e6 / found["count"]}


class Idle:
    """Memory of a connection that has had one request and waits for the next; a
    hundred for each host."""

    def __init__(self, program: pathlib.Path, connections: int):
        self.program, self.connections = program, connections

    def __call__(self, proxy) -> dict:
        proxy.restart()
        before = proxy.memory_bytes()
        hosts = proxy.directory / "few-hosts.json"
        hosts.write_text(json.dumps(json.loads(proxy.hosts_file.read_text())[:self.connections // 100]))
        client = subprocess.Popen([self.program, "load", "idle", f"127.0.0.1:{proxy.port}", hosts,
                                   str(self.connections), "60"], stdout=subprocess.PIPE, text=True)
        try:
            assert json.loads(client.stdout.readline())["open"] == self.connections
            time.sleep(2)
            return {"bytes": (proxy.memory_bytes() - before) / self.connections}
        finally:
            client.kill()
            client.wait()


def run(command: list) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def cases(program: pathlib.Path, seconds: float) -> dict:
    requests = {f"HTTP/{version}, {connections} connections": H2load("/", version, connections, seconds)
                for version in ("1.1", "2") for connections in (1, 64, 512)}
    transfers = {f"1 GiB {direction}, HTTP/{version} (MiB/s)": Transfer(direction, version)
                 for direction in ("download", "upload") for version in ("1.1", "2")}
    return requests | {
        f"{HOSTS} hosts, a connection each": Load(program, "hosts", HOSTS, seconds),
        "WebSocket echoes, 64 connections": Load(program, "websocket", 64, seconds),
        "new TLS connections, 16 at a time": Load(program, "handshakes", 16, seconds),
    } | transfers | {"idle connection (bytes)": Idle(program, 1000)}


def row(name: str, samples: dict) -> str:
    """The medians of one case, and Hearth's beside nginx's."""
    key = "bytes" if "bytes" in samples["hearth"][0] else "rate"
    values = {proxy: [sample[key] for sample in found] for proxy, found in samples.items()}
    median = {proxy: statistics.median(found) for proxy, found in values.items()}
    cells = [f"{median[proxy]:,.0f} ({min(found):,.0f}-{max(found):,.0f})" for proxy, found in values.items()]
    cells.append(f"{median['hearth'] / median['nginx']:.2f}")
    for detail in ("p99_us", "cpu_us"):
        found = {proxy: [sample[detail] for sample in entries if sample.get(detail)] for proxy, entries in samples.items()}
        if all(found.values()):
            middle = {proxy: statistics.median(entries) for proxy, entries in found.items()}
            cells.append(" / ".join(f"{middle[proxy]:,.0f}" for proxy in samples) +
                         f" = {middle['hearth'] / middle['nginx']:.2f}")
        else:
            cells.append("")
    return f"| {name} | " + " | ".join(cells) + " |"


def machine() -> dict:
    model = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    first = lambda *command: subprocess.run(command, capture_output=True, text=True)
    versions = {"nginx": first("nginx", "-v").stderr, "haproxy": first("haproxy", "-v").stdout.splitlines()[0]}
    return {"CPU": model[1] if model else platform.machine(), "CPUs": os.cpu_count(), "kernel": platform.release(),
            "commit": first("git", "-C", str(ROOT), "describe", "--always", "--dirty").stdout.strip()} | \
        {name: re.search(r"[\d.]+", text)[0] for name, text in versions.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="of each sample")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="part of the names of the cases to run")
    parser.add_argument("--hearth", type=pathlib.Path, default=DEFAULT_HEARTH)
    parser.add_argument("--output", type=pathlib.Path, help="JSON file [target/bench/endpoint-DATE.json]")
    args = parser.parse_args()
    started = datetime.datetime.now(datetime.UTC)
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hearth-bench-")))
        upstream = stack.enter_context(Upstream(args.hearth))
        hearth = stack.enter_context(Hearth(directory, upstream, args.hearth, HOSTS))
        proxies = {"hearth": hearth, "nginx": stack.enter_context(Nginx(directory, upstream, hearth)),
                   "haproxy": stack.enter_context(Haproxy(directory, upstream, hearth))}
        samples = {name: {} for name in cases(args.hearth, args.seconds) if args.only in name}
        print("| Case, per second | " + " | ".join(proxies) + " | ÷ nginx | p99 µs | CPU µs each |\n|---|---|---|---|---|---|---|")
        for name, measure in cases(args.hearth, args.seconds).items():
            if name in samples:
                for _ in range(args.repeats):
                    for proxy in proxies.values():
                        samples[name].setdefault(proxy.name, []).append(measure(proxy))
                print(row(name, samples[name]), flush=True)
    output = args.output or ROOT / f"target/bench/endpoint-{started:%Y%m%dT%H%M%SZ}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"machine": machine(), "samples": samples}, indent=1))
    print(f"\n{machine()}\n{args.repeats} samples of {args.seconds:g} s each; median (least-greatest). Written to {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What attacks of one account cost another: latency of A's microVM, which is asked every 20 ms, and
memory of the server, while account B does one thing after the other. Needs root. See README.md."""
import argparse
import contextlib
import dataclasses
import math
import multiprocessing
import os
import pathlib
import re
import resource
import socket
import sys
import time

from attacks import ACCOUNT, ATTACKS, DATA_DIR, SLOW_REGISTRY, Attacker, SlowRegistry
from service import APPS, Failure, Service

INTERVAL_SECONDS = 0.02
FRESH_INTERVAL_SECONDS = 0.5
# What an attack may cost.
RATIO_MAX, MIB_MAX = 2.0, 256


class Neighbour:
    """Asks A's microVM in processes of its own, on one connection that is kept and
    on fresh ones."""

    def __init__(self, service: Service, microvm: dict, token: str):
        self.over, self.found = multiprocessing.Event(), multiprocessing.Queue()
        self.service, self.microvm, self.token = service, microvm, token
        self.processes = [multiprocessing.Process(target=work, daemon=True) for work in (self._kept, self._fresh)]
        for process in self.processes:
            process.start()

    def _connect(self) -> socket.socket:
        host, port = self.microvm["endpoint"].rsplit(":", 1)
        plain = socket.create_connection(("127.0.0.1", int(port)), 20)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.service.tls.wrap_socket(plain, server_hostname=host)

    def _ask(self, sock: socket.socket) -> None:
        endpoint = self.microvm["endpoint"]
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {endpoint}\r\nX-aws-proxy-auth: {self.token}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"Hello from perl.\n"):
            if not (received := sock.recv(4096)):
                raise ConnectionError(answer)
            answer += received

    def _kept(self) -> None:
        sock, times, tick = None, [], time.monotonic()
        while not self.over.is_set():
            began = time.monotonic()
            try:
                sock = sock or self._connect()
                self._ask(sock)
                times.append((began, time.monotonic() - began))
            except OSError:
                times.append((began, math.inf))
                sock = None
            tick = max(tick + INTERVAL_SECONDS, time.monotonic())
            time.sleep(max(0.0, tick - time.monotonic()))
        self.found.put(("kept", times))

    def _fresh(self) -> None:
        times = []
        while not self.over.is_set():
            began = time.monotonic()
            try:
                with self._connect() as sock:
                    self._ask(sock)
                times.append((began, time.monotonic() - began))
            except OSError:
                times.append((began, math.inf))
            time.sleep(FRESH_INTERVAL_SECONDS)
        self.found.put(("fresh", times))

    def end(self) -> dict[str, list[tuple[float, float]]]:
        """When each request was sent and how long it took."""
        self.over.set()
        found = dict(self.found.get(timeout=60) for _ in self.processes)
        for process in self.processes:
            process.join()
        return found


def memory_mib(process: int, member: str) -> float:
    text = pathlib.Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(member + ":")) / 1024


def forget_peak(process: int) -> None:
    """Makes VmHWM what VmRSS is (proc(5), clear_refs)."""
    pathlib.Path(f"/proc/{process}/clear_refs").write_text("5")


def percentile(values: list[float], share: float) -> float:
    values = sorted(values)
    return values[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def within(times: list[tuple[float, float]], window: tuple[float, float]) -> list[float]:
    return [took for sent, took in times if window[0] <= sent < window[1]]


def row(measured: "Measured", times: dict[str, list[tuple[float, float]]]) -> tuple[str, bool]:
    """A row of the table, and whether a target was missed."""
    quiet = [took for window in measured.quiet for took in within(times["kept"], window)]
    loud, fresh = (within(times[kind], measured.loud) for kind in ("kept", "fresh"))
    before, during = percentile(quiet, 0.99), percentile(loud, 0.99)
    ratio = during / before
    missed = ratio > RATIO_MAX, measured.grown_mib > MIB_MAX
    marks = [" (!)" if is_missed else "" for is_missed in missed]
    failed = sum(map(math.isinf, loud + fresh))
    columns = [
        measured.name,
        f"{percentile(quiet, 0.5) * 1e3:.1f}, {percentile(loud, 0.5) * 1e3:.1f}",
        f"{before * 1e3:.1f}, {during * 1e3:.1f}",
        f"{ratio:.2f}{marks[0]}",
        "none" if not failed else str(failed),
        f"{max(fresh, default=math.nan) * 1e3:.0f}",
        f"{measured.grown_mib:.0f}{marks[1]}",
        measured.outcome,
    ]
    return f"| {' | '.join(columns)} |", any(missed)


HEAD = """
| Attack | p50, ms: without, with | p99, ms: without, with | p99 ÷ without | A's requests that failed | slowest on a new connection, ms \
| server, MiB above idle | what became of it |
|---|---|---|---|---|---|---|---|"""


@dataclasses.dataclass
class Measured:
    name: str
    # Begin and end of the times without the attack, and of the attack.
    quiet: list[tuple[float, float]]
    loud: tuple[float, float]
    grown_mib: float
    outcome: str


def rest(seconds: float) -> tuple[float, float]:
    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic()


def measure(name: str, attacker: Attacker, seconds: float) -> Measured:
    server = attacker.service.process.pid
    before = rest(seconds)
    idle = memory_mib(server, "VmRSS")
    forget_peak(server)
    began = time.monotonic()
    try:
        outcome = ATTACKS[name](attacker, seconds)
    except Exception as error:
        outcome = f"the attacker failed: {error}"
    loud = (began, time.monotonic())
    print(f"{name}: {outcome}", flush=True)
    grown = memory_mib(server, "VmHWM") - idle
    # What has begun may still end.
    time.sleep(2)
    return Measured(name, [before, rest(seconds)], loud, grown, outcome)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of each attack, and of the quiet before and after it")
    parser.add_argument("--only", default="", help="attacks whose names this regular expression finds")
    parser.add_argument("--data-dir", type=pathlib.Path, default=DATA_DIR)
    args = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with SlowRegistry() as registry:
        service = Service(args.data_dir, f'accounts = ["{ACCOUNT}"]\n[build]\nconcurrent_builds = 2\n'
                          f'registry_mirrors = {{ "{SLOW_REGISTRY}" = "{registry.url}" }}\n')
        try:
            image, _ = service.ensure_image(APPS["perl"])
            attacker = Attacker(service)
            attacker.ensure_image()
            microvm = service.run(image)
            service.wait_for_state(microvm, "RUNNING")
            neighbour = Neighbour(service, microvm, service.token(microvm, 8080))
            # Those who attack have other computers.
            os.nice(40)
            time.sleep(3)
            names = [name for name in ATTACKS if re.search(args.only, name)]
            measured = [measure(name, attacker, args.seconds) for name in names]
            times = neighbour.end()
        except Failure as failure:
            print(f"bench: {failure}", file=sys.stderr)
            return 1
        finally:
            with contextlib.suppress(Failure):
                service.close()
    rows, missed = zip(*(row(each, times) for each in measured))
    print(HEAD)
    print("\n".join(rows))
    print(f"\nAt most {RATIO_MAX:g} times the p99 and {MIB_MAX} MiB; load {os.getloadavg()[0]:.1f}")
    return 1 if any(missed) else 0


if __name__ == "__main__":
    sys.exit(main())

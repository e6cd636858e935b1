#!/usr/bin/env python3
"""`make bench-guest-hop`: what the way through the endpoint costs in front of a real guest, and
how a crowd is woken.

usage: guest_hop.py [--rounds N] [--requests N] [--data-dir DIR]     (as root)

The same requests go to one app through its endpoint and straight into the microVM's network
namespace, in turns, each on one connection that is kept. Then a hundred clients ask a suspended
microVM at the same moment. What is measured how: README.md beside this file.
"""
import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import threading
import time

from floor_command import APP_ADDRESS
from service import APPS, CACHE, Failure, Service

CROWD = 100
# Everything without limits: the bench asks for more than a microVM of 512 MiB is given.
SETTINGS = "[endpoint]\nconnections_per_vcpu = 0\nrequests_per_second_per_vcpu = 0\nbytes_per_second_per_vcpu = 0\n"


def ask(sock: socket.socket, request: bytes) -> float:
    """One request and its whole answer; the seconds that took."""
    began = time.perf_counter()
    sock.sendall(request)
    answer = sock.recv(65536)
    while b"\r\n\r\n" not in answer or not answer.endswith(b"Hello from perl.\n"):
        more = sock.recv(65536)
        if not more or not answer.startswith(b"HTTP/1.1 200 "):
            raise Failure(f"this is no answer of the app: {answer[:200]!r}")
        answer += more
    return time.perf_counter() - began


def times(sock: socket.socket, request: bytes, count: int) -> list[float]:
    return [ask(sock, request) for _ in range(count)]


def direct_client(count: int, rounds: int):
    """Runs inside of the namespace: for each line of input, a round, as a line of JSON."""
    request = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
    with socket.create_connection((APP_ADDRESS, 8080), 20) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(rounds):
            sys.stdin.readline()
            print(json.dumps(times(sock, request, count)), flush=True)


def namespace(service: Service) -> str:
    """The one that the microVM's VMM is in; there is one microVM."""
    children = pathlib.Path(f"/proc/{service.process.pid}/task")
    pids = {pid for task in children.iterdir() for pid in (task / "children").read_text().split()}
    own = os.readlink(f"/proc/{service.process.pid}/ns/net")
    found = [path for path in (f"/proc/{pid}/ns/net" for pid in pids) if os.readlink(path) != own]
    if len(found) != 1:
        raise Failure(f"the server has {len(found)} VMMs")
    return found[0]


class Client:
    """A connection to a microVM's endpoint."""

    def __init__(self, service: Service, microvm: dict, token: str):
        host, port = microvm["endpoint"].rsplit(":", 1)
        plain = socket.create_connection(("127.0.0.1", int(port)), 20)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = service.tls.wrap_socket(plain, server_hostname=host)
        self.request = f"GET / HTTP/1.1\r\nHost: {microvm['endpoint']}\r\nX-aws-proxy-auth: {token}\r\n\r\n".encode()


def measure_hop(service: Service, microvm: dict, token: str, count: int, rounds: int) -> list[tuple[float, float]]:
    """Medians of each round, in seconds: through the endpoint, and directly."""
    client = Client(service, microvm, token)
    enter = ["nsenter", f"--net={namespace(service)}"]
    # Answers of apps come through the agent, otherwise: the namespace takes none of them.
    rule = ["insert", "rule", "inet", "hearth", "input", "iifname", "app0", "ct", "state", "established", "accept"]
    subprocess.run([*enter, "nft", *rule], check=True)
    command = [*enter, sys.executable, __file__, "--direct", "--requests", str(count),
               "--rounds", str(rounds + 1)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as direct:
        def straight() -> list[float]:
            direct.stdin.write("\n")
            direct.stdin.flush()
            return json.loads(direct.stdout.readline())
        found = []
        for number in range(rounds + 1):
            pair = [times(client.sock, client.request, count), straight()]
            # The first round warms both up.
            if number:
                found.append(tuple(statistics.median(values) for values in pair))
        direct.stdin.close()
    client.sock.close()
    return found


def measure_crowd(service: Service, microvm: dict, token: str) -> tuple[float, float]:
    """Seconds until the first of a hundred answers, and from the first to the last."""
    clients = [Client(service, microvm, token) for _ in range(CROWD)]
    service.suspend(microvm)
    together, ends = threading.Barrier(CROWD + 1), []

    def one(client: Client):
        together.wait()
        ask(client.sock, client.request)
        ends.append(time.perf_counter())
        client.sock.close()
    threads = [threading.Thread(target=one, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    together.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    if len(ends) != CROWD:
        raise Failure(f"of {CROWD} requests {len(ends)} were answered")
    return min(ends) - began, max(ends) - min(ends)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.2f} ({min(values):,.2f}-{max(values):,.2f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--requests", type=int, default=300, help="of each round")
    parser.add_argument("--data-dir", type=pathlib.Path, default=CACHE / "bench")
    parser.add_argument("--direct", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.direct:
        direct_client(args.requests, args.rounds)
        return 0
    service = Service(args.data_dir, SETTINGS)
    try:
        image, _ = service.ensure_image(APPS["perl"])
        microvm = service.run(image)
        service.wait_for_state(microvm, "RUNNING")
        token = service.token(microvm, 8080)
        hop = measure_hop(service, microvm, token, args.requests, args.rounds)
        crowds = [measure_crowd(service, microvm, token) for _ in range(args.rounds)]
    except Failure as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    finally:
        service.close()
    print("| | ms, median (least-greatest) of rounds |\n|---|---|")
    print(f"| request through the endpoint | {spread([through * 1e3 for through, _ in hop])} |")
    print(f"| request straight into the namespace | {spread([straight * 1e3 for _, straight in hop])} |")
    print(f"| ratio | {spread([through / straight for through, straight in hop])} |")
    print(f"| {CROWD} requests to a suspended microVM: first answer | {spread([first * 1e3 for first, _ in crowds])} |")
    print(f"| the last after the first | {spread([rest * 1e3 for _, rest in crowds])} |")
    print(f"\n{args.rounds} rounds of {args.requests} requests; load {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

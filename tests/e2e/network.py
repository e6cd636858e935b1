"""Hosts for guests to reach or not to reach: a network namespace of the test's own,
behind a veth."""
import contextlib
import fcntl
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading

from harness import wait_until

# The host's end, and the other end with one address of each kind. TEST-NET-3 (RFC 5737)
# stands for the internet.
HOST_ADDRESS = "203.0.113.1"
PUBLIC = "203.0.113.2"
ALLOWED = "10.213.77.2"
CLOSED = ["192.168.77.2", "172.31.77.2", "100.64.77.2", "169.254.169.254", "198.18.255.254", "0.0.0.0"]
BANNER_PORT, HOLD_PORT, WEB_PORT = 7777, 7778, 80
BANNER = f"""
import selectors, socket
ports = ({BANNER_PORT}, {HOLD_PORT}, {WEB_PORT})
listener, holder, web = listeners = [socket.create_server(("0.0.0.0", port), backlog=64) for port in ports]
all, held = selectors.DefaultSelector(), []
for one in listeners:
    all.register(one, selectors.EVENT_READ)
while True:
    for key, _ in all.select():
        client, _ = key.fileobj.accept()
        if key.fileobj is web:
            client.settimeout(5)
            client.recv(4096)
            client.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: 8\\r\\n\\r\\n")
        client.sendall(b"outside\\n")
        held.append(client) if key.fileobj is holder else client.close()
"""


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@contextlib.contextmanager
def outside_world():
    """The namespace with a listener that greets with "outside" on every address, one
    that stays connected, and one that answers requests. A host has these addresses once: sessions take turns."""
    with open(pathlib.Path(tempfile.gettempdir()) / "hearth-e2e-outside.lock", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        with _outside_world() as name:
            yield name


@contextlib.contextmanager
def _outside_world():
    name = f"hearth-e2e-{os.getpid()}"
    veth = f"e2e{os.getpid() % 100_000}"
    process = None
    ip("netns", "add", name)
    try:
        ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", name)
        for address in (f"{HOST_ADDRESS}/30", "10.213.77.1/30"):
            ip("address", "add", address, "dev", veth)
        ip("link", "set", veth, "up")
        for address in (f"{PUBLIC}/30", f"{ALLOWED}/30", *(f"{closed}/32" for closed in CLOSED[:-1])):
            ip("-n", name, "address", "add", address, "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "route", "add", "default", "via", HOST_ADDRESS)
        for closed in CLOSED[:-1]:
            ip("route", "add", f"{closed}/32", "via", PUBLIC)
        process = subprocess.Popen(["ip", "netns", "exec", name, sys.executable, "-c", BANNER])
        # Every address can be reached from the host: what a guest cannot reach is
        # closed to it, not absent.
        for address in (PUBLIC, ALLOWED, *CLOSED[:-1]):
            wait_until(lambda address=address: greets(address, BANNER_PORT) == b"outside\n", 10, f"{address} answers")
        yield name
    finally:
        if process:
            process.kill()
            process.wait()
        subprocess.run(["ip", "link", "delete", veth], stderr=subprocess.DEVNULL)
        ip("netns", "delete", name)


def greets(address: str, port: int) -> bytes | None:
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            return connection.recv(100)
    except OSError:
        return None


@contextlib.contextmanager
def host_service():
    """A listener on every address of the host; its port."""
    listener = socket.create_server(("0.0.0.0", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.sendall(b"host\n")
                client.close()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    assert greets("127.0.0.1", port) == b"host\n"
    yield port
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def host_addresses() -> list[str]:
    """Every IPv4 address of this host but loopback."""
    return [address for address in re.findall(r"inet (\S+?)/", ip("-o", "-4", "address")) if address != "127.0.0.1"]


def uplinks() -> list[tuple[str, str]]:
    """Both addresses of the veth of every microVM on this host: the host's and the namespace's."""
    pairs = re.findall(r"hv\w+ +inet (\d+\.\d+\.\d+\.)(\d+)/31", ip("-o", "-4", "address"))
    return [(f"{net}{last}", f"{net}{int(last) ^ 1}") for net, last in pairs]

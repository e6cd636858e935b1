"""Thousands of clients that connect and are slow, from many addresses of 127.0.0.0/8, before a
server without any microVM."""
import contextlib
import http.client
import pathlib
import resource
import socket
import ssl
import time

import pytest

from harness import REGION, Server, wait_until

_, HARD = resource.getrlimit(resource.RLIMIT_NOFILE)
# Each takes two of the server's open files, which keeps 2048 for itself (open_files.rs). Not every
# host lets root have more.
CONNECTIONS, SOURCES = 10_000 if HARD == resource.RLIM_INFINITY else min(10_000, (HARD - 2048) // 2 - 10), 20
# Of them so many finish the TLS handshake and are slow with the head of a request.
WITH_TLS = 6_000
HOST = f"00000000-0000-4000-8000-000000000000.lambda-microvm.{REGION}.localhost"
# A ClientHello that says that it has 508 bytes more.
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@pytest.fixture
def descriptors():
    """Enough of them for this process; its child takes the limit over."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if CONNECTIONS <= WITH_TLS:
        pytest.skip(f"{hard} open files are too few")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def server_with(base, settings, descriptors):
    with contextlib.ExitStack() as stack:
        def start(endpoint: dict) -> Server:
            name = f"slow-{endpoint['connections']}"
            server = Server(base / name, settings | {"endpoint": endpoint}, base, name).start()
            stack.callback(server.end)
            return server
        yield start


def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def refused(server: Server) -> float:
    """A client that behaves well gets its answer, here 403; seconds that it took."""
    began = time.monotonic()
    with contextlib.closing(socket.create_connection(("127.0.0.1", server.endpoint_port), 30)) as plain:
        stream = tls().wrap_socket(plain, server_hostname=HOST)
        stream.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        response = http.client.HTTPResponse(stream)
        response.begin()
        assert response.status == 403, response.status
    return time.monotonic() - began


def connect(server: Server, number: int) -> socket.socket:
    source = f"127.1.{number % SOURCES}.1"
    return socket.create_connection(("127.0.0.1", server.endpoint_port), 30, source_address=(source, 0))


def drip(client: socket.socket, byte: bytes) -> bool:
    """Whether the server still takes a byte."""
    try:
        client.send(byte)
        return True
    except OSError:
        return False


def connections(server: Server) -> int:
    """The server's established connections at its endpoints' port, as the kernel counts them."""
    ports = f":{server.endpoint_port:04X}"
    lines = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # State 01 is ESTABLISHED; what nobody has accepted yet has no descriptor, and so no inode.
    return sum(line[1].endswith(ports) and line[3] == "01" and line[9] != "0" for line in lines)


def resident_bytes(server: Server) -> int:
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def test_thousands_at_a_time(server_with):
    server = server_with({"connections": 0, "connections_per_source": 1024})
    files = connections(server)
    refused(server)
    wait_until(lambda: connections(server) <= files, 5, "the first client is gone")
    memory = resident_bytes(server)
    with contextlib.ExitStack() as stack:
        def keep(client):
            stack.callback(client.close)
            return client
        # Those with TLS first, as it takes a while; the others' handshakes end after ten seconds.
        context, began = tls(), time.monotonic()
        heads = [keep(context.wrap_socket(connect(server, number), server_hostname=HOST)) for number in range(WITH_TLS)]
        for client in heads:
            client.send(b"GET / HT")
        after_tls = resident_bytes(server)
        print(f"{WITH_TLS} heads: {(after_tls - memory) / WITH_TLS:.0f} B each, {time.monotonic() - began:.1f} s")
        hellos = [keep(connect(server, number)) for number in range(WITH_TLS, CONNECTIONS)]
        for client in hellos:
            client.send(HELLO)
        most = 0

        def all_open() -> bool:
            nonlocal most
            most = max(most, connections(server) - files)
            return most >= CONNECTIONS
        with contextlib.suppress(AssertionError):
            wait_until(all_open, 3, "")
        assert most >= CONNECTIONS, f"only {most} were open at the same time"
        at_once = len(hellos)
        print(f"{at_once} hellos: {(resident_bytes(server) - after_tls) / at_once:.0f} B each")
        took = [refused(server) for _ in range(20)]
        print(f"well-behaved clients: {sorted(took)[10] * 1000:.0f} ms, at most {max(took) * 1000:.0f} ms")
        for _ in range(3):
            for client in hellos[::10]:
                drip(client, b"\0")
            refused(server)
        # What drips is not waited for: each handshake has ten seconds as a whole.
        wait_until(lambda: connections(server) - files <= WITH_TLS + 10, 30, "slow handshakes are cut")
        assert resident_bytes(server) - memory < CONNECTIONS * 64 * 1024
    wait_until(lambda: connections(server) <= files + 10, 30, "the connections are gone")
    refused(server)


def test_more_than_there_are_places(server_with):
    server = server_with({"connections": 1000, "connections_per_source": 1024})
    refused(server)
    files = connections(server)
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(5000):
            clients.append(connect(server, number))
            stack.callback(clients[-1].close)
            if number % 1000 == 999:
                refused(server)
        assert connections(server) - files <= 1000 + 10, "there are never more than the places"
        refused(server)
        # The clients go on dripping while others are served.
        for _ in range(3):
            for client in clients:
                drip(client, HELLO[:1])
            refused(server)
    wait_until(lambda: connections(server) <= files + 10, 30, "the connections are gone")

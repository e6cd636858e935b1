"""Names and certificates of the endpoints: DNS, the operator's certificate, ACME. No guest is
needed for any of it."""
import base64
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import textwrap

import pytest

from harness import Server, wait_until
from network import ip

DOMAIN = "hearth.test"
SUFFIX = f"lambda-microvm.us-east-1.{DOMAIN}"
HOST = f"0b7e3b0e-6a8a-4f0c-9b57-3a1f5f0e7d11.{SUFFIX}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def serve(base, settings, request):
    """Starts servers on data directories of their own, without images."""
    servers = []

    def start(wait: bool = True, **more) -> Server:
        name = f"{request.node.name}-{len(servers)}"
        server = Server(base / name, settings | {"endpoint_domain": DOMAIN} | more, base, name)
        servers.append(server)
        return server.start() if wait else server
    yield start
    for server in servers:
        server.end()


def certificate_of(server: Server) -> bytes:
    """What the endpoints show, whoever signed it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", server.endpoint_port), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname=HOST) as tls:
            return tls.getpeercert(binary_form=True)


def verified(server: Server, bundle: pathlib.Path | str) -> bool:
    """Whether a client that trusts the bundle only is content with the endpoints' certificate."""
    context = ssl.create_default_context(cafile=bundle)
    try:
        with socket.create_connection(("127.0.0.1", server.endpoint_port), timeout=10) as plain:
            context.wrap_socket(plain, server_hostname=HOST).close()
        return True
    except ssl.SSLCertVerificationError:
        return False


def make_certificate(directory: pathlib.Path, name: str = f"*.{SUFFIX}", days: int = 30) -> tuple[pathlib.Path, pathlib.Path]:
    directory.mkdir(exist_ok=True)
    chain, key = directory / "chain.pem", directory / "key.pem"
    for path in (chain, key):
        path.unlink(missing_ok=True)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                    str(days), "-subj", "/CN=provided", "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out",
                    chain], check=True, capture_output=True)
    return chain, key


def test_the_operators_certificate_is_served_and_changes_under_way(serve, base):
    chain, key = make_certificate(base / "provided")
    server = serve(certificate={"chain": chain, "key": key})
    first = certificate_of(server)
    assert first == ssl.PEM_cert_to_DER_cert(chain.read_text())
    assert verified(server, chain)
    # Half of a change: the key is another one. The certificate before stays, and the
    # log says so once.
    key.write_text("no key")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the endpoint certificate stays as it was" in server.log_path.read_text(), 20, "it is logged")
    assert certificate_of(server) == first
    make_certificate(base / "provided")
    # Nobody says so: it is noticed.
    wait_until(lambda: certificate_of(server) != first, 30, "the new certificate is served")
    assert certificate_of(server) == ssl.PEM_cert_to_DER_cert(chain.read_text())
    assert server.log_path.read_text().count("the endpoint certificate stays as it was") == 1
    assert server.stop() == 0


def test_a_certificate_that_cannot_be_used_is_refused_with_a_sentence(serve, base):
    chain, key = make_certificate(base / "refused", f"*.{DOMAIN}")
    server = serve(wait=False, certificate={"chain": chain, "key": key})
    assert server.refuses() == f"hearth: the certificate in {chain} is for *.{DOMAIN}, not for *.{SUFFIX}"
    make_certificate(base / "refused-other")
    shutil.copy(base / "refused-other/chain.pem", chain)
    assert server.refuses() == f"hearth: the key in {key} is not that of the first certificate in {chain}"
    chain.unlink()
    assert server.refuses() == f"hearth: cannot read {chain}: No such file or directory (os error 2)"
    server.settings["acme"] = {"directory_url": "https://127.0.0.1:1/dir"}
    assert server.refuses() == "hearth: certificate and acme are both set; the endpoints have one certificate"
    del server.settings["certificate"]
    assert "acme needs a way to make TXT records" in server.refuses()


class Pebble:
    """The ACME server of Let's Encrypt's tests, which asks one name server for proofs."""

    def __init__(self, directory: pathlib.Path, certificate, name_server: str, validity_seconds: int,
                 external_accounts: dict[str, str] | None = None):
        directory.mkdir()
        self.authority = certificate.authority
        self.port, management = free_port(), free_port()
        self.directory_url, self.management = f"https://127.0.0.1:{self.port}/dir", f"https://127.0.0.1:{management}"
        config = {"listenAddress": f"127.0.0.1:{self.port}", "managementListenAddress": f"127.0.0.1:{management}",
                  "certificate": str(certificate.path), "privateKey": str(certificate.key), "httpPort": 1, "tlsPort": 1,
                  "certificateValidityPeriod": validity_seconds}
        if external_accounts:
            config |= {"externalAccountBindingRequired": True, "externalAccountMACKeys": external_accounts}
        (directory / "config.json").write_text(json.dumps({"pebble": config}))
        self.log_path = directory / "pebble.log"
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                ["pebble", "-strict", "-config", directory / "config.json", "-dnsserver", name_server],
                stdout=log, stderr=log, env={**os.environ, "PEBBLE_VA_NOSLEEP": "1"})
        self.root = directory / "root.pem"

    def __enter__(self):
        def up():
            assert self.process.poll() is None, self.log_path.read_text()
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return True
        wait_until(up, 20, "pebble listens")
        done = subprocess.run(["curl", "-sS", "--fail", "--cacert", self.authority, f"{self.management}/roots/0"],
                              check=True, capture_output=True, timeout=20)
        self.root.write_bytes(done.stdout)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def test_acme_with_our_own_name_server(serve, base, certificate):
    dns = f"127.0.0.1:{free_port()}"
    with Pebble(base / "pebble-own", certificate, dns, validity_seconds=30) as pebble:
        acme = {"directory_url": pebble.directory_url, "ca_bundle": certificate.authority, "contacts": ["mailto:ops@example.com"]}
        server = serve(acme=acme, dns={"address": dns, "answers": ["127.0.0.1"]})
        wait_until(lambda: verified(server, pebble.root), 60, "the certificate was had")
        first = certificate_of(server)
        # Two thirds of half a minute later there is another one.
        wait_until(lambda: certificate_of(server) != first, 60, "it is renewed")
        assert verified(server, pebble.root)
        kept = server.data_dir / "acme"
        assert {path.name: oct(path.stat().st_mode & 0o777) for path in kept.iterdir()} == {
            "account.json": "0o600", "certificate.pem": "0o600"}
        account = (kept / "account.json").read_bytes()
        # Its proof is gone from the zone.
        asked = subprocess.run(["dig", "+short", "-p", dns.split(":")[1], "@127.0.0.1", f"_acme-challenge.{SUFFIX}", "TXT"],
                               check=True, capture_output=True, text=True)
        assert asked.stdout == ""
        assert server.stop() == 0
        # What was had is served at once after a start, with the same account.
        server.start()
        assert verified(server, pebble.root)
        assert (kept / "account.json").read_bytes() == account
        assert server.stop() == 0


def test_acme_with_an_external_account(serve, base, certificate):
    dns = f"127.0.0.1:{free_port()}"
    key = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    with Pebble(base / "pebble-external", certificate, dns, 3600, {"kid-1": key}) as pebble:
        key_file = base / "external-account-key"
        acme = {"directory_url": pebble.directory_url, "ca_bundle": certificate.authority}
        zone = {"address": dns, "answers": ["127.0.0.1"]}
        without = serve(acme=acme, dns=zone)
        wait_until(lambda: "externalAccountRequired" in without.log_path.read_text(), 30, "an account alone is refused")
        assert without.stop() == 0
        # A key that is not the authority's, and then the one that is.
        key_file.write_text(base64.urlsafe_b64encode(os.urandom(32)).decode())
        server = serve(acme=acme | {"external_account": {"key_id": "kid-1", "key_file": key_file}}, dns=zone)
        wait_until(lambda: "no endpoint certificate by ACME" in server.log_path.read_text(), 30, "the failure is logged")
        assert server.stop() == 0
        key_file.write_text(f"{key}\n")
        server.start()
        wait_until(lambda: verified(server, pebble.root), 60, "the certificate was had")
        assert key not in server.log_path.read_text()
        assert server.stop() == 0
        # It is needed once.
        key_file.unlink()
        (server.data_dir / "acme/certificate.pem").unlink()
        server.start()
        wait_until(lambda: verified(server, pebble.root), 60, "another one was had with the same account")
        assert server.stop() == 0


def test_acme_with_a_hook(serve, base, certificate):
    dns, management = free_port(), free_port()
    zone = subprocess.Popen(["pebble-challtestsrv", "-dns01", f"127.0.0.1:{dns}", "-management", f"127.0.0.1:{management}",
                             "-http01", "", "-https01", "", "-tlsalpn01", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    calls = base / "hook-calls"
    hook = base / "dns-hook"
    hook.write_text(textwrap.dedent(f"""\
        #!/bin/sh
        echo "$1 $2" >> {calls}
        [ -e {base}/hook-works ] || {{ echo "no access to the zone" >&2; exit 1; }}
        case $1 in
        present) operation=set-txt ;;
        cleanup) operation=clear-txt ;;
        esac
        exec curl -sS --fail -o /dev/null -d "{{\\"host\\": \\"$2.\\", \\"value\\": \\"$3\\"}}" http://127.0.0.1:{management}/$operation
        """))
    hook.chmod(0o755)
    try:
        with Pebble(base / "pebble-hook", certificate, f"127.0.0.1:{dns}", validity_seconds=3600) as pebble:
            acme = {"directory_url": pebble.directory_url, "ca_bundle": certificate.authority, "hook": hook}
            server = serve(acme=acme)
            wait_until(lambda: "no access to the zone" in server.log_path.read_text(), 30, "the failure is logged")
            # Until there is one, the own authority's is served.
            assert verified(server, server.env()["HEARTH_CA_BUNDLE"])
            (base / "hook-works").touch()
            assert server.stop() == 0
            calls.unlink()
            server.start()
            wait_until(lambda: verified(server, pebble.root), 60, "the certificate was had")
            name = f"_acme-challenge.{SUFFIX}"
            assert calls.read_text().splitlines() == [f"present {name}", f"cleanup {name}"]
            assert server.stop() == 0
    finally:
        zone.kill()
        zone.wait()


@contextlib.contextmanager
def client_host(name_server: str, address: str):
    """A namespace whose programs ask this name server."""
    name, veth = f"hearth-e2e-dns-{os.getpid()}", f"dns{os.getpid() % 100_000}"
    resolv = pathlib.Path("/etc/netns") / name / "resolv.conf"
    ip("netns", "add", name)
    try:
        ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("address", "add", f"{name_server}/30", "dev", veth)
        ip("link", "set", veth, "up")
        ip("-n", name, "address", "add", f"{address}/30", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
        resolv.parent.mkdir(parents=True)
        resolv.write_text(f"nameserver {name_server}\n")

        def run(*command: str) -> str:
            done = subprocess.run(["ip", "netns", "exec", name, *command], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
            return done.stdout
        yield run
    finally:
        shutil.rmtree(resolv.parent, ignore_errors=True)
        ip("netns", "delete", name)
        subprocess.run(["ip", "link", "delete", veth], capture_output=True)


def test_a_host_on_the_network_resolves_and_reaches_endpoints(serve):
    ours, theirs = "198.51.100.1", "198.51.100.2"
    with client_host(ours, theirs) as run:
        server = serve(wait=False, dns={"address": f"{ours}:53"})
        server.endpoint_addr = f"{ours}:0"
        server.start()
        dig = lambda *arguments: run("dig", "+short", *arguments).split()
        assert dig(HOST) == [ours]
        assert dig("+tcp", HOST) == [ours]
        assert dig(f"unknown.{SUFFIX}") == [ours]
        assert dig(HOST, "AAAA") == []
        assert dig(SUFFIX, "NS") == [f"ns.{SUFFIX}."]
        assert dig(SUFFIX, "SOA")[:2] == [f"ns.{SUFFIX}.", f"hostmaster.{SUFFIX}."]
        for asked, code in ((f"a.b.{SUFFIX}", "NXDOMAIN"), (DOMAIN, "REFUSED"), (f"{SUFFIX} AXFR", "failed")):
            assert code in run("dig", *asked.split()), asked
        # Names of microVMs that exist and that do not look alike, but for the name.
        program = textwrap.dedent("""
            import http.client, socket, ssl, sys
            host, port, bundle = sys.argv[1], int(sys.argv[2]), sys.argv[3]
            assert socket.gethostbyname(host) == "198.51.100.1"
            client = http.client.HTTPSConnection(host, port, context=ssl.create_default_context(cafile=bundle), timeout=20)
            client.request("GET", "/")
            print(client.getresponse().status)
            """)
        bundle = server.env()["HEARTH_CA_BUNDLE"]
        assert run(sys.executable, "-c", program, HOST, str(server.endpoint_port), bundle).strip() == "403"
        curl = run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", bundle, f"https://{HOST}:{server.endpoint_port}/")
        assert curl == "403"
        assert server.stop() == 0


def test_the_name_server_takes_garbage_and_floods(serve):
    dns = free_port()
    server = serve(dns={"address": f"127.0.0.1:{dns}"})
    name = b"".join(bytes([len(label)]) + label.encode() for label in HOST.split(".")) + b"\0"
    query = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", dns))
        client.settimeout(0.5)
        for number in range(300):
            client.send(os.urandom(number))
        # Random bytes are answered with an error at most, never at length.
        received = []
        with contextlib.suppress(TimeoutError):
            while True:
                received.append(len(client.recv(4096)))
        assert max(received, default=0) < 512
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", dns))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        client.settimeout(1)
        for _ in range(2000):
            client.send(query)
        sizes = []
        with contextlib.suppress(TimeoutError):
            while True:
                sizes.append(len(client.recv(4096)))
    # Whoever forges sources has less sent to the victim than he sends himself.
    assert sum(sizes) < 2000 * len(query), (len(sizes), sum(sizes))
    with socket.create_connection(("127.0.0.1", dns), timeout=5) as stream:
        stream.sendall(b"\xff\xff" + os.urandom(100))
        with contextlib.suppress(ConnectionResetError):
            assert stream.recv(1) == b""
    with socket.create_connection(("127.0.0.1", dns), timeout=5) as stream:
        stream.sendall(len(query).to_bytes(2, "big") + query)
        answer = stream.recv(4096)
    assert answer[2:4] == b"\x12\x34" and answer.endswith(socket.inet_aton("127.0.0.1"))
    assert server.stop() == 0

"""What a tenant or a stranger does to a server in `make bench-neighbours`. Each attack goes on for
a while and says what became of it.

Everything is made here, and everything that is attacked is on loopback.
"""
import contextlib
import hashlib
import http.server
import io
import multiprocessing
import pathlib
import re
import socket
import ssl
import struct
import tempfile
import threading
import time
import zipfile
from collections import Counter

import boto3
from botocore.config import Config

from service import CACHE, Failure, Service

ACCOUNT, REGION = "111122223333", "us-east-1"
BUCKET = f"neighbours-{ACCOUNT}"
SLOW_REGISTRY = "slow.hearth.test"
APP = """
use strict; use IO::Select; use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalPort => 8080, Listen => 128, ReuseAddr => 1) or die "listen: $!";
my $sockets = IO::Select->new($listener);
while (my @ready = $sockets->can_read) {
    for my $client (@ready) {
        $sockets->add($listener->accept), next if $client == $listener;
        # A request is short, and comes as one.
        sysread $client, my $request, 65536 or $sockets->remove($client), close $client, next;
        system '(yes flood >/dev/console) & (yes flood) &' if $request =~ m{^GET /flood };
        system '(yes >/dev/null) & (yes >/dev/null) &' if $request =~ m{^GET /compute };
        syswrite $client, "HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nok\\n";
    }
}
"""
DOCKERFILE = "FROM debian:trixie-slim\nCOPY app.pl /\nCMD [\"perl\", \"/app.pl\"]\n"


class SlowRegistry:
    """Gives one byte of a manifest in 15 seconds."""

    def __enter__(self):
        over = self.over = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                if "/manifests/" not in self.path:
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
                self.end_headers()
                self.close_connection = True
                with contextlib.suppress(OSError):
                    while not over.is_set():
                        self.wfile.write(b" ")
                        over.wait(15)

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.server.shutdown()


class Attacker:
    """The account that attacks, with an image of its own and every capability."""

    def __init__(self, service: Service):
        self.service = service
        told = service.hearth("env", "--account", ACCOUNT)
        env = {name: value.strip("'") for name, value in re.findall(r"^export (\w+)=(\S*)$", told, re.MULTILINE)}

        def client(name: str):
            config = Config(retries={"total_max_attempts": 1}, read_timeout=300, s3={"addressing_style": "path"})
            return boto3.client(
                name, endpoint_url=env["AWS_ENDPOINT_URL"], region_name=REGION, config=config,
                aws_access_key_id=env["AWS_ACCESS_KEY_ID"], aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"])
        self.api, self.s3 = client("lambda-microvms"), client("s3")
        self.api_port = int(env["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
        self.ca_bundle = env["HEARTH_CA_BUNDLE"]
        with contextlib.suppress(self.s3.exceptions.BucketAlreadyOwnedByYou):
            self.s3.create_bucket(Bucket=BUCKET)

    def arn(self, name: str) -> str:
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:microvm-image:{name}"

    def state(self, name: str) -> str | None:
        try:
            return self.api.get_microvm_image(imageIdentifier=self.arn(name))["state"]
        except self.api.exceptions.ResourceNotFoundException:
            return None

    def begin(self, name: str, files: dict[str, str] | pathlib.Path, **more) -> None:
        """Uploads a zip and begins to build it, instead of what an interrupted run
        may have left."""
        self.delete(name)
        if isinstance(files, dict):
            content = io.BytesIO()
            with zipfile.ZipFile(content, "w") as archive:
                for path, text in files.items():
                    archive.writestr(path, text)
            self.s3.put_object(Bucket=BUCKET, Key=name, Body=content.getvalue())
        else:
            with open(files, "rb") as content:
                self.s3.put_object(Bucket=BUCKET, Key=name, Body=content)
        self.api.create_microvm_image(
            name=name, codeArtifact={"uri": f"s3://{BUCKET}/{name}"}, resources=[{"minimumMemoryInMiB": 512}],
            baseImageArn=f"arn:aws:lambda:{REGION}:aws:microvm-image:al2023-1",
            buildRoleArn=f"arn:aws:iam::{ACCOUNT}:role/build", **more)

    def wait(self, name: str, seconds: float) -> str:
        """The image's state when its build is over, and why; or that it is not over."""
        end = time.monotonic() + seconds
        while (state := self.state(name)) == "CREATING":
            if time.monotonic() > end:
                return "not over"
            time.sleep(0.1)
        builds = self.api.list_microvm_image_builds(imageIdentifier=self.arn(name), imageVersion="1.0")["items"]
        return f"{state}: {builds[0].get('stateReason') or 'no reason'}" if builds else str(state)

    def delete(self, name: str) -> None:
        if self.state(name) not in (None, "DELETING"):
            self.api.delete_microvm_image(imageIdentifier=self.arn(name))
        end = time.monotonic() + 60
        while self.state(name) is not None:
            if time.monotonic() > end:
                raise Failure(f"the image {name} is not deleted")
            time.sleep(0.1)

    def ensure_image(self) -> None:
        name = "flood-" + hashlib.sha256(APP.encode()).hexdigest()[:8]
        if self.state(name) != "CREATED":
            print("Building the attacker's image; later runs find it.", flush=True)
            self.begin(name, {"Dockerfile": DOCKERFILE, "app.pl": APP}, additionalOsCapabilities=["ALL"])
            if not (state := self.wait(name, 1800)).startswith("CREATED"):
                raise Failure(f"the attacker's image: {state}")
        self.image = name

    @contextlib.contextmanager
    def microvm(self):
        """A microVM and a token for it."""
        microvm = self.api.run_microvm(imageIdentifier=self.arn(self.image))
        try:
            end = time.monotonic() + 60
            while self.api.get_microvm(microvmIdentifier=microvm["microvmId"])["state"] != "RUNNING":
                if time.monotonic() > end:
                    raise Failure("the attacker's microVM does not run")
                time.sleep(0.05)
            answer = self.api.create_microvm_auth_token(
                microvmIdentifier=microvm["microvmId"], expirationInMinutes=30, allowedPorts=[{"port": 8080}])
            yield microvm, answer["authToken"]["X-aws-proxy-auth"]
        finally:
            self.terminate(microvm)

    def terminate(self, microvm: dict) -> float:
        """Seconds until it was TERMINATED."""
        began = time.monotonic()
        self.api.terminate_microvm(microvmIdentifier=microvm["microvmId"])
        while self.api.get_microvm(microvmIdentifier=microvm["microvmId"])["state"] != "TERMINATED":
            if time.monotonic() > began + 120:
                raise Failure("the attacker's microVM does not end")
            time.sleep(0.05)
        return time.monotonic() - began

    def api_answers(self, seconds: float) -> str:
        """Asks the API on a new connection again and again; the longest wait."""
        end, longest, asked = time.monotonic() + seconds, 0.0, 0
        while (began := time.monotonic()) < end:
            with socket.create_connection(("127.0.0.1", self.api_port), 30) as sock:
                sock.settimeout(30)
                sock.sendall(b"GET /2025-09-09/microvms HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n")
                if not sock.recv(16).startswith(b"HTTP/1.1 4"):
                    return "the API gave no answer"
            longest, asked = max(longest, time.monotonic() - began), asked + 1
            time.sleep(0.25)
        return f"{asked} new connections to the API answered, the slowest after {longest * 1e3:.0f} ms"


def elsewhere(work, *arguments) -> tuple[multiprocessing.Process, multiprocessing.Queue]:
    """Runs an attacking client in a process of its own."""
    answers = multiprocessing.Queue()
    process = multiprocessing.Process(target=lambda: answers.put(work(*arguments)), daemon=True)
    process.start()
    return process, answers


def build_again_and_again(attacker: Attacker, name: str, files, seconds: float) -> str:
    end, builds, outcome = time.monotonic() + seconds, 0, ""
    while time.monotonic() < end:
        attacker.begin(name, files)
        outcome = attacker.wait(name, max(30, end - time.monotonic()))
        builds += 1
        attacker.delete(name)
    return f"{builds} builds, {outcome}"


def arguments(attacker: Attacker, seconds: float) -> str:
    doublings = "".join(f"ARG A={'$A' * 10}\n" for _ in range(9))
    dockerfile = f"ARG A={'x' * 20}\n{doublings}FROM debian:trixie-slim\nCMD [\"true\"]\n"
    return build_again_and_again(attacker, "arguments", {"Dockerfile": dockerfile}, seconds)


def zip_directory(attacker: Attacker, seconds: float) -> str:
    """A zip of 200 MB that is nothing but the directory of four million entries
    (APPNOTE.TXT, section 4.3)."""
    entries, name_bytes = 4_000_000, 5
    head = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, name_bytes, 0, 0, 0, 0, 0, 0)
    size = entries * (len(head) + name_bytes)
    with tempfile.NamedTemporaryFile(suffix=".zip") as file:
        file.write(b"PK\3\4" + bytes(26))
        for first in range(0, entries, 100_000):
            file.write(b"".join(head + b"%05x" % number for number in range(first, first + 100_000)))
        end = 30 + size
        file.write(struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, size, 30))
        file.write(struct.pack("<4sIQI", b"PK\6\7", 0, end, 1))
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xffff, 0xffff, size, 30, 0))
        file.flush()
        return build_again_and_again(attacker, "directory", pathlib.Path(file.name), seconds)


def slow_registry(attacker: Attacker, seconds: float) -> str:
    """More builds than there are slots wait for it."""
    names = [f"slow{number}" for number in range(4)]
    for name in names:
        attacker.begin(name, {"Dockerfile": f"FROM {SLOW_REGISTRY}/{name}/app:1\nCMD [\"true\"]\n"})
    time.sleep(seconds)
    states = [attacker.wait(name, 0) for name in names]
    began = time.monotonic()
    for name in names:
        attacker.delete(name)
    return f"{', '.join(sorted(set(states)))}; deleted within {time.monotonic() - began:.1f} s"


def sparse_file(attacker: Attacker, seconds: float) -> str:
    """The app makes it, where the image report looks for the names of packages."""
    directory = "/var/lib/dpkg/info"
    app = f"system 'mkdir -p {directory}; truncate -s 8T {directory}/zz.list; sync';\n{APP}"
    attacker.begin("sparse", {"Dockerfile": DOCKERFILE, "app.pl": app})
    outcome = attacker.wait("sparse", 900)
    attacker.delete("sparse")
    return outcome


def hold(port: int, count: int, sources: list[str], say: bytes, seconds: float) -> Counter:
    """Opens connections that say this and no more, again when they are answered or closed;
    what became of them."""
    held, seen, end = [], Counter(), time.monotonic() + seconds
    while time.monotonic() < end:
        held = still_open(held, seen)
        while len(held) < count and time.monotonic() < end:
            try:
                source = sources[len(held) % len(sources)]
                sock = socket.create_connection(("127.0.0.1", port), 2, source_address=(source, 0))
                sock.settimeout(1)
                held.append(sock)
                with contextlib.suppress(OSError):
                    sock.sendall(say)
            except OSError:
                seen["refused"] += 1
                break
        time.sleep(0.5)
    seen["open in the end"] = len(still_open(held, seen))
    return seen


def still_open(held: list[socket.socket], seen: Counter) -> list[socket.socket]:
    left = []
    for sock in held:
        sock.setblocking(False)
        try:
            seen["answered" if sock.recv(4096) else "closed"] += 1
        except BlockingIOError:
            left.append(sock)
            continue
        except OSError:
            seen["closed"] += 1
        sock.close()
    return left


def in_words(seen: Counter) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in seen.most_common())


def endpoint_port(attacker: Attacker) -> int:
    microvms = attacker.service.api.list_microvms()["items"]
    running = next(item for item in microvms if item["state"] == "RUNNING")
    answer = attacker.service.api.get_microvm(microvmIdentifier=running["microvmId"])
    return int(answer["endpoint"].rsplit(":", 1)[1])


def silent_connections(attacker: Attacker, seconds: float) -> str:
    sources = ["127.0.0.2", "127.0.0.3"]
    ports = (attacker.api_port, endpoint_port(attacker))
    clients = [elsewhere(hold, port, 1000, sources, b"", seconds) for port in ports]
    answered = attacker.api_answers(seconds)
    api, endpoints = (answers.get() for _, answers in clients)
    return f"{answered}; of the attacker's: {in_words(api)}; at the endpoints: {in_words(endpoints)}"


def slow_bodies(attacker: Attacker, seconds: float) -> str:
    head = (b"POST / HTTP/1.1\r\nHost: api\r\nContent-Type: application/x-amz-json-1.1\r\n"
            b"X-Amz-Target: Logs_20140328.PutLogEvents\r\nContent-Length: 8388608\r\n\r\n")
    _, answers = elsewhere(hold, attacker.api_port, 200, ["127.0.0.2"], head + bytes(8_388_600), seconds)
    answered = attacker.api_answers(seconds)
    return f"{answered}; of the attacker's: {in_words(answers.get())}"


def occupy(endpoint: str, token: str, ca_bundle: str, source: str, count: int, seconds: float) -> Counter:
    """Proves connections with a good token and keeps them."""
    host, port = endpoint.rsplit(":", 1)
    context = ssl.create_default_context(cafile=ca_bundle)
    request = f"GET / HTTP/1.1\r\nHost: {endpoint}\r\nX-aws-proxy-auth: {token}\r\n\r\n".encode()
    held, seen, end = [], Counter(), time.monotonic() + seconds
    while time.monotonic() < end and len(held) < count:
        try:
            plain = socket.create_connection(("127.0.0.1", int(port)), 5, source_address=(source, 0))
            sock = context.wrap_socket(plain, server_hostname=host)
            sock.sendall(request)
            seen["answered " + sock.recv(4096)[9:12].decode()] += 1
            held.append(sock)
        except OSError as error:
            seen[type(error).__name__] += 1
            time.sleep(0.05)
    time.sleep(max(0.0, end - time.monotonic()))
    return seen


def places(attacker: Attacker, seconds: float) -> str:
    with attacker.microvm() as (microvm, token):
        clients = [elsewhere(occupy, microvm["endpoint"], token, attacker.ca_bundle, f"127.0.0.{last}", 1024, seconds)
                   for last in range(2, 6)]
        seen = sum((answers.get() for _, answers in clients), Counter())
    return f"of the attacker's connections: {in_words(seen)}"


def compute(attacker: Attacker, seconds: float) -> str:
    """No attack: what is to be compared with the flood, which computes as much."""
    return misbehave(attacker, "/compute", seconds)


def flood(attacker: Attacker, seconds: float) -> str:
    return misbehave(attacker, "/flood", seconds)


def misbehave(attacker: Attacker, path: str, seconds: float) -> str:
    with attacker.microvm() as (microvm, token):
        endpoint = microvm["endpoint"]
        host, port = endpoint.rsplit(":", 1)
        context = ssl.create_default_context(cafile=attacker.ca_bundle)
        plain = socket.create_connection(("127.0.0.1", int(port)), 30)
        with context.wrap_socket(plain, server_hostname=host) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {endpoint}\r\nX-aws-proxy-auth: {token}\r\n\r\n".encode())
            sock.recv(4096)
            time.sleep(seconds)
        return f"TERMINATED within {attacker.terminate(microvm):.1f} s"


ATTACKS = {
    "Dockerfile whose ARG doubles": arguments,
    "zip of four million entries": zip_directory,
    "registry of one byte in 15 s": slow_registry,
    "1,000 silent connections each to API and endpoints": silent_connections,
    "200 bodies of 8 MiB without a signature": slow_bodies,
    "4,096 places of the endpoints with one token": places,
    "guest that only computes, to compare": compute,
    "guest that floods console and output": flood,
    "sparse file of 8 TiB in the image": sparse_file,
}
DATA_DIR = CACHE / "neighbours"

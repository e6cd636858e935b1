"""Fixtures: one server and one built image for the whole session, microVMs that end
with their test.

While writing tests, HEARTH_E2E_DATA names a data directory that is kept, so that the next session
finds the image built.
"""
import contextlib
import fcntl
import functools
import os
import pathlib
import shutil
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import threading
import zipfile

import pytest
from xdist.scheduler import LoadFileScheduling

import answers
import faults
from artifact import entry
from endpoint import Clients, Microvm
from harness import ACCOUNT, ARTIFACTS, HEARTH, PROTOCOLS, REGION, ROOT, Server, copy_data_dir
from registry import Certificate, Registry
from shells import HTTP_AND_SHELL

# Where it is ignored, as in a job in the background of a shell, every program that tests start
# would ignore it, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Which of the processes that share the tests this is, if there are several.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
PROBE = pathlib.Path(__file__).parent / "apps/probe"
PROTOCOLS_DOCKERFILE = """
FROM debian:trixie-slim
COPY protocols screen.tar /
RUN tar -x --skip-old-files --keep-directory-symlink -f /screen.tar ./etc/vim ./usr && rm /screen.tar && ln -s vim.tiny /usr/bin/vi
ENTRYPOINT ["/protocols"]
"""
PUBLIC_NAME, PUBLIC_ADDRESS = "public.hearth.test", "203.0.113.2"

# Of two files that run at a time (pytest-xdist): those with long builds go first, so that both
# processes end at about the same time, and those that measure, count, or give addresses to the host
# go last, each by itself.
FIRST = ("test_build", "test_snapshot", "test_full_disk", "test_image_hooks", "test_recordings", "test_versions", "test_hooks")
# Chromium gives up its connections when the addresses of its host change, as they do with each
# microVM: test_protocols.
ALONE = ("test_protocols", "test_server", "test_faults", "test_restart", "test_names", "test_network", "test_slow", "test_fuzz",
         "test_waking", "test_limits", "test_idle")
# One process runs these one after the other, so that only one builds the image that most of them
# need, while there is other work.
LAST = ("test_screen", "test_websocket_frames", *ALONE)


def pytest_collection_modifyitems(items):
    def place(item):
        file = item.module.__name__
        return LAST.index(file) + 1 if file in LAST else FIRST.index(file) - len(FIRST) if file in FIRST else 0
    items.sort(key=place)


class Files(LoadFileScheduling):
    """Gives a process a file at a time, and the last ones together."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return "the last" if pathlib.Path(file).stem in LAST else file


def pytest_xdist_make_scheduler(config, log):
    return Files(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Between processes, a lock that files share, or have to themselves; kept from the first test
    of a file, with what that sets up, to the last."""
    if WORKER:
        fcntl.flock(turns(), fcntl.LOCK_EX if item.module.__name__ in ALONE else fcntl.LOCK_SH)
    report = yield
    if WORKER and (nextitem is None or nextitem.module is not item.module):
        fcntl.flock(turns(), fcntl.LOCK_UN)
    return report


@functools.cache
def turns():
    return open(pathlib.Path(tempfile.gettempdir()) / f"hearth-e2e-{os.environ['PYTEST_XDIST_TESTRUNUID']}.lock", "w")


def pytest_sessionfinish(session):
    if WORKER:
        session.config.workeroutput["faults"] = {kind: dict(counts) for kind, counts in faults.TALLY.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    for kind, counts in getattr(node, "workeroutput", {}).get("faults", {}).items():
        faults.TALLY[kind].update(counts)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        item.session.keep_artifacts = True
    return report


@pytest.fixture(scope="session", autouse=True)
def answers_fit_the_model():
    """Fails the session's last test when any answer that boto3 got did not fit the
    service's model."""
    yield
    assert not answers.wrong, "answers that do not fit botocore's model:\n" + "\n".join(answers.wrong)


@pytest.fixture(scope="session")
def base(request):
    """Directory of everything that the session writes; its logs are kept when something failed."""
    assert HEARTH.exists(), f"{HEARTH} is missing: run `make build`"
    artifacts = ARTIFACTS / WORKER
    shutil.rmtree(artifacts, ignore_errors=True)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="hearth-e2e-"))
    yield directory
    if getattr(request.session, "keep_artifacts", False):
        artifacts.mkdir(parents=True, exist_ok=True)
        for file in [*directory.glob("*.log"), *directory.glob("*.toml")]:
            shutil.copy(file, artifacts)
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def name_server():
    """A DNS server for the guests' relay: knows one name, and that nothing else
    exists. Its address."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    question = b"".join(bytes([len(label)]) + label.encode() for label in PUBLIC_NAME.split(".")) + b"\0"

    def serve():
        while True:
            query, peer = sock.recvfrom(512)
            if not query:
                return
            asked = query[12:12 + len(question)].lower()
            record_type = query[12 + len(query[12:].split(b"\0")[0]) + 1:][:2]
            end = 12 + len(query[12:].split(b"\0")[0]) + 5
            known = asked == question
            answers = 1 if known and record_type == b"\0\1" else 0
            head = query[:2] + struct.pack("!HHHHH", 0x8180 | (0 if known else 3), 1, answers, 0, 0)
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(PUBLIC_ADDRESS)
            sock.sendto(head + query[12:end] + answer * answers, peer)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield "127.0.0.1:%d" % sock.getsockname()[1]
    sock.sendto(b"", sock.getsockname())
    thread.join()
    sock.close()


@pytest.fixture(scope="session")
def registry(base):
    """An image registry on loopback."""
    with Registry(base / "registry") as registry:
        yield registry


@pytest.fixture(scope="session")
def certificate(base):
    """What only the CA bundle of the settings vouches for."""
    return Certificate(base)


@pytest.fixture(scope="session")
def secure_registry(base, certificate):
    """An image registry on loopback that speaks HTTPS."""
    with Registry(base / "secure-registry", certificate) as registry:
        yield registry


@pytest.fixture(scope="session")
def settings(base, name_server, registry, secure_registry, certificate):
    """Configuration of the session's server; other servers are given variations."""
    ca = base / "ca-bundle.pem"
    ca.write_text(pathlib.Path("/etc/ssl/certs/ca-certificates.crt").read_text() + certificate.authority.read_text())
    mirrors = {"docker.io": registry.url, "secure.hearth.test": secure_registry.url}
    return {
        "minimum_idle_seconds": 1,
        "build": {"concurrent_builds": 2, "ca_bundle": ca, "registry_mirrors": mirrors},
        "network": {"resolvers": [name_server]},
    }


@pytest.fixture(scope="session")
def server(base, settings):
    kept = os.environ.get("HEARTH_E2E_DATA")
    server = Server(pathlib.Path(kept) / WORKER if kept else base / "data", settings, base).start()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def clients(server):
    return Clients(server)


@pytest.fixture(scope="session")
def probe_zip(base):
    """The code artifact of the session's image."""
    context = base / "context"
    shutil.copytree(PROBE, context)
    shutil.copy(ROOT / "examples/perl-counter/app.pl", context)
    return pathlib.Path(shutil.make_archive(str(base / "probe"), "zip", context))


@pytest.fixture(scope="session")
def image(clients, probe_zip):
    """ARN of the session's image, made as the README tells: with the unmodified AWS CLI."""
    known = {item["imageArn"]: item["state"] for item in clients.microvms.list_microvm_images()["items"]}
    if known.get(clients.image_arn("probe")) == "CREATED":
        return clients.image_arn("probe")
    clients.aws("s3", "mb", "s3://code", parse=False)
    clients.aws("s3", "cp", str(probe_zip), "s3://code/probe.zip", parse=False)
    made = clients.aws(
        "lambda-microvms", "create-microvm-image", "--name", "probe", "--code-artifact", "uri=s3://code/probe.zip",
        "--base-image-arn", f"arn:aws:lambda:{REGION}:aws:microvm-image:al2023-1",
        "--build-role-arn", f"arn:aws:iam::{ACCOUNT}:role/build", "--resources", "minimumMemoryInMiB=512",
        "--environment-variables", "PROBE_VERSION_ENV=from the version")
    assert made["state"] == "CREATING"
    state, reason = clients.wait_built(made["imageArn"])
    assert state == "CREATED", reason
    return made["imageArn"]


@pytest.fixture(scope="session")
def protocols(clients, base):
    """ARN of an image of the app that speaks every protocol, with programs that draw on
    the whole screen."""
    arn = clients.image_arn("protocols")
    if clients.image_state(arn) != "CREATED":
        clients.delete_image(arn)
        with zipfile.ZipFile(base / "protocols.zip", "w") as archive:
            archive.writestr("Dockerfile", PROTOCOLS_DOCKERFILE)
            archive.writestr(entry("protocols", stat.S_IFREG | 0o755), (PROTOCOLS / "app").read_bytes())
            archive.writestr(entry("screen.tar", stat.S_IFREG | 0o644), (PROTOCOLS / "screen.tar").read_bytes())
        with contextlib.suppress(clients.s3.exceptions.BucketAlreadyOwnedByYou):
            clients.s3.create_bucket(Bucket="protocols")
        clients.s3.upload_file(str(base / "protocols.zip"), "protocols", "code.zip")
        clients.create_image("protocols", "s3://protocols/code.zip")
        state, reason = clients.wait_built(arn)
        assert state == "CREATED", reason
    return arn


@pytest.fixture
def run(clients, image):
    """Starts microVMs of the session's image; they are terminated after the test."""
    started: list[Microvm] = []

    def start(**arguments) -> Microvm:
        started.append(clients.run(image, **arguments))
        return started[-1]
    yield start
    for microvm in started:
        microvm.terminate(wait=False)


@pytest.fixture(scope="module")
def microvm(clients, image):
    """A microVM with shells, for the tests of one file that leave it running."""
    microvm = clients.run(image, ingressNetworkConnectors=HTTP_AND_SHELL)
    yield microvm
    microvm.terminate(wait=False)


@pytest.fixture(scope="module")
def shared(clients, image):
    """A microVM for the tests of one file that leave it running and do not care what
    others did to it."""
    microvm = clients.run(image)
    yield microvm
    microvm.terminate(wait=False)


@contextlib.contextmanager
def copies_of(server, base, settings, name: str):
    """Starts further servers, with the images of this one; they are stopped at the end."""
    servers: list[Server] = []

    def start(changes: dict | None = None, directory: pathlib.Path | None = None, link: bool = True) -> Server:
        merged = {**settings}
        for key, value in (changes or {}).items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
        number = f"{name}-{len(servers)}"
        directory = directory or base / number
        copy_data_dir(server.data_dir, directory, link)
        servers.append(Server(directory, merged, base, number))
        return servers[-1].start()
    yield start
    for other in servers:
        other.end()
        subprocess.run(["rm", "-rf", other.data_dir], check=True)


@pytest.fixture
def another_server(base, image, server, settings, request):
    """Starts further servers, with the session's image; they are stopped after the test."""
    with copies_of(server, base, settings, request.node.name) as start:
        yield start


@pytest.fixture(scope="module")
def servers_of_module(base, image, server, settings, request):
    """Starts further servers, with the session's image; they are stopped after the
    module's last test."""
    with copies_of(server, base, settings, request.module.__name__) as start:
        yield start


def pytest_terminal_summary(terminalreporter):
    """The table of docs/reliability.md, of what this session has injected."""
    if faults.TALLY:
        terminalreporter.section("faults")
        for row in faults.summary():
            terminalreporter.write_line(row)

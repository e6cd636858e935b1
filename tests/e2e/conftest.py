"""Fixtures: one server for the whole session, with images that are kept between sessions
(images.py), microVMs that end with their test.
"""
import contextlib
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading

import pytest

import answers
import faults
import images
from endpoint import Clients, Microvm
from harness import ARTIFACTS, BUILD, HEARTH, NETWORK, Server, copy_data_dir
from registry import Certificate, Registry, small_debian
from shells import HTTP_AND_SHELL

# Where it is ignored, as in a job in the background of a shell, every program that tests start
# would ignore it, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Needs a server of an earlier version, which `make upgrade` builds.
collect_ignore = [] if "HEARTH_OLD_BIN" in os.environ else ["test_upgrade.py"]
# Which of the processes that share the tests this is, if there are several.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
PUBLIC_NAME, PUBLIC_ADDRESS = "public.hearth.test", "203.0.113.2"

# Of the files that run at a time (pytest-xdist), those that take long go first, so that all
# processes end at about the same time.
FIRST = ("test_build", "test_recordings", "test_full_disk", "test_image_hooks", "test_dockerfiles", "test_faults", "test_snapshot",
         "test_hooks", "test_server", "test_restart", "test_versions", "test_clients", "test_failures", "test_cli", "test_story",
         "test_microvm_ctl", "test_forward")
# With the marker "alone", for a session of their own: what measures time, or gives addresses to the
# host that others find there. Chromium (test_protocols) gives up its connections when the addresses
# of its host change, as they do with each microVM.
ALONE = ("test_protocols", "test_network", "test_egress", "test_slow", "test_idle")


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: no other file may run at the same time")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.module.__name__ in ALONE:
            item.add_marker("alone")
    items.sort(key=lambda item: FIRST.index(item.module.__name__) if item.module.__name__ in FIRST else len(FIRST))


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
def small(registry):
    """Digest of the base image small:1, for builds whose base does not matter: with perl and a shell,
    and far fewer files than Debian."""
    return registry.push(
        "library/small", "1", small_debian(), {"Env": ["PATH=/usr/bin:/bin", "SMALL=yes", "IMAGE=acme/app/x:1.2"]})


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
        "build": BUILD | {"ca_bundle": ca, "registry_mirrors": mirrors},
        "network": NETWORK | {"resolvers": [name_server]},
    }


@pytest.fixture(scope="session")
def server(base, settings, request):
    needed = {name for item in request.session.items for name in item.fixturenames}
    images.put_into(base / "data", needed, base)
    server = Server(base / "data", settings, base).start()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def clients(server):
    return Clients(server)


@pytest.fixture(scope="session")
def image(clients):
    """ARN of the image of most tests."""
    return clients.image_arn("probe")


@pytest.fixture(scope="session")
def protocols(clients):
    """ARN of an image of the app that speaks every protocol, with programs that draw on
    the whole screen."""
    return clients.image_arn("protocols")


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
    """Starts further servers, with the images of this one, or some of them; they are stopped at the
    end."""
    servers: list[Server] = []

    def start(changes: dict | None = None, directory: pathlib.Path | None = None, link: bool = True,
              images: set[str] | None = None) -> Server:
        merged = {**settings}
        for key, value in (changes or {}).items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
        number = f"{name}-{len(servers)}"
        directory = directory or base / number
        copy_data_dir(server.data_dir, directory, link, images)
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

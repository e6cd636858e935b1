"""Every protocol of the endpoint with the clients that people use, in front of an
app in a real guest."""
import concurrent.futures
import contextlib
import json
import os
import platform
import re
import subprocess
import time

import pytest

import browser
from endpoint import MIB
from harness import CACHE, PROTOCOLS, ROOT, wait_until
from shells import HTTP_AND_SHELL, shell_token

PROGRAMS = ROOT / "tests/clients/protocols"
NODE = CACHE / "clients/node/nodejs/bin/node"
PYTHON = PROTOCOLS / "venv/bin/python"
DOCUMENT = ROOT / "docs/endpoint.md"
TABLE = re.compile(r"(?<=<!-- protocols: begin -->\n).*?(?=<!-- protocols: end -->)", re.DOTALL)
# Protocol and client, to what went wrong if anything.
Results = dict[tuple[str, str], str | None]


@pytest.fixture
def run(clients, protocols):
    """Starts microVMs of the app; they are terminated after the test."""
    with contextlib.ExitStack() as ends:
        def start(**arguments):
            microvm = clients.run(protocols, **arguments)
            ends.callback(microvm.terminate, wait=False)
            return microvm
        yield start


@pytest.fixture(scope="module")
def app(clients, protocols):
    microvm = clients.run(protocols, ingressNetworkConnectors=HTTP_AND_SHELL)
    yield microvm
    microvm.terminate(wait=False)


def place(microvm) -> list[str]:
    """Host, port, CA and token, as the programs want them."""
    host = microvm.endpoint.split(":")[0]
    return [host, str(microvm.clients.server.endpoint_port), microvm.clients.env["HEARTH_CA_BUNDLE"], microvm.token()]


def drive(*command) -> Results:
    """Runs a program; what it says of each protocol and client."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    results = map(json.loads, done.stdout.splitlines())
    return {(result["protocol"], result["client"]): result["error"] for result in results}


class Curl:
    """curl, with one endpoint."""

    def __init__(self, microvm, http: str):
        host, port, bundle, token = place(microvm)
        self.url, self.host = f"https://{host}:{port}", f"{host}:{port}"
        self.arguments = ["curl", "--silent", "--show-error", f"--{http}", "--cacert", bundle, "--resolve",
                          f"{host}:{port}:127.0.0.1", "--max-time", "120", "--header", f"X-aws-proxy-auth: {token}"]

    def __call__(self, path: str, *more, data: bytes | None = None) -> tuple[str, int, bytes]:
        """Version, status and body of the answer."""
        command = [*self.arguments, "--write-out", "%{stderr}%{http_version} %{http_code}", self.url + path, *more]
        done = subprocess.run(command, input=data, capture_output=True, timeout=150)
        assert done.returncode == 0, done.stderr
        version, status = done.stderr.decode().split()
        return version, int(status), done.stdout


def curl_plain(curl: Curl, version: str):
    assert curl("/describe") == (version, 200, f"GET /describe HTTP/1.1 {curl.host}".encode())


def curl_bodies(curl: Curl, version: str):
    body = os.urandom(16 * MIB)
    upload = ["--data-binary", "@-", "--header", "Expect:"]
    assert curl("/count", *upload, data=body) == (version, 200, str(len(body)).encode())
    assert curl("/echo", *upload, data=body)[2] == body
    assert curl(f"/bytes?{len(body)}")[2] == b"\7" * len(body)


def curl_events(curl: Curl, version: str):
    events = curl("/events", "--no-buffer")
    assert re.findall("data: (.*)", events[2].decode()) == [f"event {number}" for number in range(5)]
    assert events[0] == version


def drive_curl(microvm) -> Results:
    """The same of curl."""
    results = {}
    for option, version, name in [("http1.1", "1.1", "HTTP/1.1"), ("http2", "2", "HTTP/2")]:
        curl = Curl(microvm, option)
        for protocol, check in [(name, curl_plain), (f"Bodies over {name}", curl_bodies),
                                (f"Server-Sent Events over {name}", curl_events)]:
            results[protocol, "curl"] = None
            try:
                check(curl, version)
            except (AssertionError, subprocess.SubprocessError) as error:
                results[protocol, "curl"] = repr(error)
    return results


@pytest.fixture(scope="module")
def seen(app) -> Results:
    """What became of each protocol with each client."""
    return (drive_curl(app) | drive(PYTHON, PROGRAMS / "client.py", *place(app))
            | drive(NODE, PROGRAMS / "client.mjs", PROTOCOLS, *place(app)))


@pytest.fixture(scope="module")
def browsed(app) -> Results:
    """The same of a browser."""
    if browser.CHROMIUM is None:
        assert platform.freedesktop_os_release()["ID"] != "debian", "Chromium is missing: run `make setup`"
        pytest.skip("skipped: this distribution has no package of Chromium")
    host, port, bundle, token = place(app)
    with browser.home(bundle) as home, browser.forwarding(app.clients.server, app, "0:8080") as (forwarded,):
        return drive(NODE, PROGRAMS / "browser.mjs", PROTOCOLS, browser.CHROMIUM, home, host, port, token,
                     shell_token(app), f"http://localhost:{forwarded}")


def failures(seen: Results) -> list[str]:
    return [f"{protocol}, {client}: {error}" for (protocol, client), error in seen.items() if error]


def test_every_client_gets_what_it_wants(seen):
    assert not (wrong := failures(seen)), "\n".join(wrong)


def test_a_browser_gets_what_it_wants(browsed):
    assert not (wrong := failures(browsed)), "\n".join(wrong)


def table(seen: Results) -> str:
    """The table of the documentation."""
    programs = list(dict.fromkeys(client for _, client in seen))
    lines = ["| Protocol | " + " | ".join(programs) + " |", "|---" * (len(programs) + 1) + "|"]
    for protocol in sorted({protocol for protocol, _ in seen}):
        cells = ["" if (protocol, client) not in seen else "fails" if seen[protocol, client] else "works"
                 for client in programs]
        lines.append(f"| {protocol} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def test_the_documentation_s_table_is_what_was_seen(seen, browsed):
    text, written = DOCUMENT.read_text(), table(seen | browsed)
    if os.environ.get("HEARTH_WRITE_TABLES"):
        DOCUMENT.write_text(text := TABLE.sub(lambda _: written, text))
    assert TABLE.search(text)[0] == written, "docs/endpoint.md differs; HEARTH_WRITE_TABLES=1 writes the table anew"


class Held:
    """A stream that a program holds open."""

    def __init__(self, microvm, kind: str):
        command = [PYTHON, PROGRAMS / "hold.py", kind, *place(microvm)]
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "open\n":
            raise AssertionError(f"{kind}: {self.process.communicate()[1]}")

    def ended(self, timeout: float) -> bool:
        """Whether the program saw the end within a time in seconds."""
        out, err = self.process.communicate(timeout=timeout)
        assert out == "ended\n", err
        return True

    def end(self):
        self.process.kill()
        self.process.communicate()


def test_a_suspend_ends_open_streams_cleanly(run):
    microvm = run()
    kinds = ["http1", "http2", "websocket", "grpc"]
    with contextlib.ExitStack() as ends:
        streams = [Held(microvm, kind) for kind in kinds]
        for stream in streams:
            ends.callback(stream.end)
        microvm.suspend()
        for stream in streams:
            assert stream.ended(timeout=20)


def test_pings_of_a_websocket_keep_it_awake_and_silence_does_not(run):
    microvm = run(idle=3)
    pinging = Held(microvm, "websocket-pings")
    silent = [Held(microvm, kind) for kind in ("http2", "websocket", "grpc")]
    try:
        deadline = time.monotonic() + 9
        while time.monotonic() < deadline:
            assert microvm.state == "RUNNING"
            time.sleep(0.5)
        pinging.end()
        microvm.wait_state("SUSPENDED", timeout=30)
        for stream in silent:
            assert stream.ended(timeout=20)
    finally:
        for stream in [pinging, *silent]:
            stream.end()


def test_requests_that_arrive_together_wake_it_once(run):
    microvm = run()
    headers, count = microvm.headers(), 100
    with contextlib.ExitStack() as ends, concurrent.futures.ThreadPoolExecutor(count) as pool:
        connections = [ends.enter_context(contextlib.closing(microvm.connection())) for _ in range(count)]
        for connection in connections:
            connection.connect()
        microvm.suspend()

        def ask(connection):
            connection.request("GET", "/describe", headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), time.monotonic()
        answers = list(pool.map(ask, connections))
    assert {answer[:2] for answer in answers} == {(200, f"GET /describe HTTP/1.1 {microvm.endpoint}".encode())}
    times = sorted(answer[2] for answer in answers)
    print(f"{count} requests to a suspended microVM: the last was answered {(times[-1] - times[0]) * 1000:.0f} ms "
          "after the first")
    wait_until(lambda: microvm.state == "RUNNING", 10, "it is shown as running")

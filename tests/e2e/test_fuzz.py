"""Random requests against a server of its own: whatever comes, it answers in its own
words, and goes on.

The same requests in every run; HEARTH_FUZZ_SEED chooses others, HEARTH_FUZZ_FACTOR more of them.
Hypothesis shrinks what fails to the least that fails.
"""
import collections
import contextlib
import json
import os
import pathlib
import socket
import sqlite3
import time
import urllib.parse
import xml.etree.ElementTree

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings as examples

import fuzz
import fuzz_requests
import model
import raw_http
import wire
from endpoint import MIB, Clients
from harness import Server, wait_until

SEED = int(os.environ.get("HEARTH_FUZZ_SEED", "1"))
FACTOR = float(os.environ.get("HEARTH_FUZZ_FACTOR", "1"))
# Longest time from a request to the end of its answer, on a busy machine with a build going on.
ANSWER_SECONDS = 10
# How much more memory the server may hold afterwards, and may have held at the worst:
# bodies have up to 6 MiB.
KEPT_MIB, PEAK_MIB = 48, 128
# Besides those of the models: what is refused before an operation is found, and by which status.
FRONT = {
    "AccessDeniedException": 403, "InvalidSignatureException": 403, "MissingAuthenticationTokenException": 403,
    "IncompleteSignatureException": 403, "UnrecognizedClientException": 403, "UnknownOperationException": 404,
}
NOT_IMPLEMENTED = b"<Code>NotImplemented</Code>"
TABLES = ("images", "image_versions", "image_builds", "microvms", "network_connectors", "network_connector_versions",
          "client_tokens")


def sized(count: int):
    """Settings of a test with so many requests, of the chosen seed."""
    def decorate(test):
        chosen = examples(max_examples=max(1, int(count * FACTOR)), deadline=None, database=None, print_blob=False,
                          suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink])
        return seed(SEED)(chosen(test))
    return decorate


@pytest.fixture(scope="module")
def target(base):
    """A server without images and without limits on the rate."""
    rates = ("run_microvm", "resume_microvm", "suspend_microvm", "terminate_microvm", "get_microvm",
             "create_microvm_auth_token", "create_microvm_shell_auth_token")
    settings = {"rates": dict.fromkeys(rates, 0), "quotas": {"images": 100_000, "network_connectors": 100_000}}
    server = Server(base / "fuzz", settings, base, "fuzz").start()
    with Target(server) as target:
        print(f"HEARTH_FUZZ_SEED={SEED}")
        yield target
    assert server.stop() == 0


class Target:
    """The server, and what may be asked of it at any time."""

    def __init__(self, server: Server):
        self.server, self.clients = server, Clients(server)
        host = urllib.parse.urlsplit(server.api_url)
        self.host, self.address = host.netloc, (host.hostname, host.port)
        self.keys = raw_http.Keys(self.clients.env["AWS_ACCESS_KEY_ID"], self.clients.env["AWS_SECRET_ACCESS_KEY"])
        self.seen = collections.Counter()

    def __enter__(self):
        self.database = sqlite3.connect(f"file:{self.server.data_dir / 'hearth.db'}?mode=ro", uri=True)
        return self

    def __exit__(self, *_):
        self.database.close()

    def rows(self) -> dict[str, int]:
        return {table: self.database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}

    @contextlib.contextmanager
    def unharmed(self):
        """What holds after any number of requests."""
        self.clients.microvms.list_microvms()
        pathlib.Path(f"/proc/{self.server.process.pid}/clear_refs").write_text("5")  # Begins the peak anew.
        before, logged = self.server.memory("VmRSS"), self.server.log_path.stat().st_size
        self.seen.clear()
        yield
        print(f"HEARTH_FUZZ_SEED={SEED}", dict(self.seen))
        assert self.server.running
        with open(self.server.log_path) as log:
            log.seek(logged)
            said = [line for line in log if "panicked" in line or " ERROR " in line]
        assert not said, "".join(said[:10])
        after, peak = self.server.memory("VmRSS"), self.server.memory("VmHWM")
        print(f"memory in MiB: {before // MIB} before, {after // MIB} after, {peak // MIB} at the worst")
        assert after - before < KEPT_MIB * MIB and peak - before < PEAK_MIB * MIB, (before, after, peak)
        self.clients.microvms.list_microvms()
        self.nothing_half_made()

    def nothing_half_made(self):
        """All that was made comes to rest, can be looked at and be deleted, and leaves nothing.
        What clients asked for who have hung up may still be made meanwhile."""
        wait_until(self.swept, 60, f"nothing is left but {self.rows()}")
        for directory in ("images", "builds", "microvms", "snapshots"):
            path = self.server.data_dir / directory
            assert not path.exists() or not list(path.iterdir()), list(path.iterdir())

    def swept(self) -> bool:
        """Deletes what there is; whether nothing is left."""
        api, core = self.clients.microvms, self.clients.core
        for image in self.images():
            state = lambda: self.clients.image_state(image)
            if state() not in (None, "DELETING"):
                wait_until(lambda: state() not in ("CREATING", "UPDATING"), 60, f"{image} is settled")
                for version in api.list_microvm_image_versions(imageIdentifier=image)["items"]:
                    assert version["state"] in ("SUCCESSFUL", "FAILED"), version
                    name = {"imageIdentifier": image, "imageVersion": version["imageVersion"]}
                    states = [build["buildState"] for build in api.list_microvm_image_builds(**name)["items"]]
                    assert states and set(states) <= {"SUCCESSFUL", "FAILED"}, (version, states)
            self.clients.delete_image(image)
        for connector in core.list_network_connectors()["NetworkConnectors"]:
            self.clients.delete_connector(connector["Name"])
        left = self.rows()
        return not any(left[table] for table in ("images", "image_versions", "image_builds", "microvms"))

    def images(self) -> list[str]:
        pages = self.clients.microvms.get_paginator("list_microvm_images").paginate()
        return [item["imageArn"] for page in pages for item in page["items"]]

    def ask(self, sent: bytes, more: bool, head_only: bool = False) -> list[wire.Answer]:
        return raw_http.parse(raw_http.exchange(self.address, sent, more, ANSWER_SECONDS), head_only)

    def check(self, request: fuzz.Request):
        """Sends a request; its answer is a proper one, and a refusal has changed nothing."""
        before = self.rows()
        # A body that is longer than what comes is waited for; so the server is told
        # that nothing comes.
        whole = request.framing in ("whole", "chunked") and request.is_http
        answers = self.ask(request.to_bytes(self.keys, self.host), whole, request.method == b"HEAD")
        for answer in answers:
            proper(answer)
        if not request.is_http:
            self.seen["no HTTP"] += 1
            return
        assert len(answers) == 1, answers
        [answer] = answers
        self.seen[answer.status] += 1
        assert "x-amzn-requestid" in answer.headers, answer
        prefixes = fuzz_requests.PREFIXES
        if request.path.startswith(prefixes) and request.path not in prefixes and request.method != b"HEAD":
            proper_api_answer(answer)
        if answer.status >= 400:
            more = {table: (before[table], count) for table, count in self.rows().items() if count > before[table]}
            assert not more, f"refused, and yet there is more: {more}: {answer}"

    @property
    def past_the_signature(self) -> float:
        """Share of the HTTP requests that were not refused for their signature."""
        counted = sum(count for status, count in self.seen.items() if isinstance(status, int))
        return 1 - self.seen[403] / counted


def proper(answer: wire.Answer):
    """What holds for the answer to anything."""
    # S3 has a code of this status for what it does not have.
    assert answer.status < 500 or (answer.status == 501 and NOT_IMPLEMENTED in (answer.body or NOT_IMPLEMENTED)), answer
    kind = answer.headers.get("content-type", "")
    if "json" in kind and answer.body:
        json.loads(answer.body)
    if "xml" in kind and answer.status >= 400 and answer.body:
        xml.etree.ElementTree.fromstring(answer.body)
    if "x-amzn-requestid" not in answer.headers:
        # The HTTP library's own refusal of what it cannot read.
        assert answer.status in (400, 414, 431) and not answer.body, answer


def proper_api_answer(answer: wire.Answer):
    """JSON, and an error is of the closed set, with its status and a text."""
    assert answer.status == 204 or answer.headers.get("content-type") == "application/json", answer
    assert answer.status == 204 or isinstance(answer.json, dict), answer
    if answer.status >= 400:
        assert exceptions().get(answer.error) == answer.status and answer.message, answer
    else:
        assert answer.error is None, answer


def exceptions() -> dict[str, int]:
    """Status by class: those of both models, and those of the front."""
    shapes = [shape for operation in model.operations().values() for shape in operation.error_shapes]
    return {shape.name: shape.metadata["error"]["httpStatusCode"] for shape in shapes} | FRONT


def test_operations_with_inputs_that_are_nearly_right(target):
    @sized(3000)
    @given(fuzz_requests.api_requests())
    def run(request):
        target.check(request)
    with target.unharmed():
        run()
        # Otherwise the requests show little: most must get past the signature, and
        # some must be right.
        assert target.past_the_signature > 0.6, target.seen
        assert sum(target.seen[status] for status in (200, 201, 202, 204)) > 50 * FACTOR, target.seen


def test_neighbours(target):
    @sized(2000)
    @given(fuzz_requests.companion_requests())
    def run(request):
        target.check(request)
    with target.unharmed():
        run()
        assert target.past_the_signature > 0.4, target.seen


def test_clients_that_hang_up(target):
    """What was asked for completely is done completely, or not at all."""
    def hang_up(name: str, delay: float):
        body = fuzz.dump(model.good(model.operations()["CreateMicrovmImage"].input_shape) | {"name": name})
        request = fuzz.Request(b"POST", b"/2025-09-09/microvm-images", b"", body)
        with socket.create_connection(target.address) as connection:
            connection.sendall(request.to_bytes(target.keys, target.host))
            time.sleep(delay)
    with target.unharmed():
        for count in range(int(200 * FACTOR)):
            hang_up(f"gone-{count}", count % 20 / 10_000)
        assert len(target.images()) > 10 * FACTOR, "hardly a request was complete when its client went"


def test_what_is_no_http(target):
    @sized(800)
    @given(fuzz_requests.wild_bytes())
    def run(sent):
        for answer in target.ask(sent, more=False):
            proper(answer)
    with target.unharmed():
        run()

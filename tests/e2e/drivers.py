"""One way to call every client: boto3, the AWS CLI, and programs in tests/clients that use a
client of their language.

A program reads calls, one JSON object a line, and answers each with one line: `output`, `pages` or
`error`. Inputs and outputs have the names of the service's model, whatever the client calls them.
"""
import dataclasses
import functools
import json
import os
import pathlib
import re
import subprocess

import botocore
import botocore.loaders
from botocore import xform_name
from botocore.exceptions import ClientError

import model
from endpoint import Clients
from harness import CACHE, ROOT, VENV_BIN

PROGRAMS = ROOT / "tests/clients"
# Where scripts/clients.sh puts what it installs and compiles.
INSTALLED = CACHE / "clients"
RUST_CLIENT = CACHE / "rust-client-target/debug/hearth-rust-client"


@dataclasses.dataclass
class Refused(Exception):
    """An error of the service as a client shows it: the client's exception type, and
    the code behind it."""

    type: str
    code: str
    status: int | None
    message: str

    def __str__(self):
        return f"{self.type}: {self.code} (HTTP {self.status}): {self.message}"


@functools.cache
def paginators() -> dict[str, dict]:
    """Of both services, by operation: the names of the size of a page and of the list in it."""
    loader = botocore.loaders.Loader()
    return {name: paginator for service, version in model.VERSIONS.items()
            for name, paginator in loader.load_service_model(service, "paginators-1", version)["pagination"].items()}


class Driver:
    """Calls operations of one client and remembers which, and what they were refused with."""

    services = tuple(model.VERSIONS)
    # Operations of the model that this release of the client does not have.
    lacks: frozenset[str] = frozenset()
    # Whether the client tells where a page ends; otherwise `pages` gives one list.
    tells_pages = True
    # Type of an exception that the client has no class for; None where it has no types at all.
    unmodelled: str | None = None

    def __init__(self, server, env: dict[str, str] | None = None):
        self.server = server
        # Clients retry what was throttled and what is the server's fault; here each
        # answer is to be seen.
        self.env = server.env() | {"AWS_MAX_ATTEMPTS": "1"} | (env or {})
        self.called: set[str] = set()
        self.paged: set[str] = set()
        self.refusals: set[tuple[str, str]] = set()

    def call(self, operation: str, **values) -> dict:
        try:
            output = self._call(service_of(operation), operation, values)
        except Refused as refused:
            self.refusals.add((service_of(operation), refused.code))
            raise
        self.called.add(operation)
        return output

    def pages(self, operation: str, size: int, **values) -> list[list[dict]]:
        """What the client's paginator gives for pages of this size."""
        found = self._pages(service_of(operation), operation, size, values)
        self.paged.add(operation)
        return found

    def close(self) -> None:
        pass


def service_of(operation: str) -> str:
    return model.operations()[operation].service_model.service_name


class Boto3(Driver):
    """In this process; its answers are held against the model, too (answers.py)."""

    unmodelled = "ClientError"

    def __init__(self, server, env=None):
        super().__init__(server, env)
        keys = {"aws_access_key_id": self.env["AWS_ACCESS_KEY_ID"],
                "aws_secret_access_key": self.env["AWS_SECRET_ACCESS_KEY"]}
        user = Clients(server)
        self.clients = {service: user.boto(service, **keys) for service in self.services}

    def _call(self, service, operation, values):
        method = xform_name(operation)
        try:
            return getattr(self.clients[service], method)(**values)
        except ClientError as error:
            answer = error.response
            raise Refused(type(error).__name__, answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"],
                          answer["Error"]["Message"]) from None

    def _pages(self, service, operation, size, values):
        paginator = self.clients[service].get_paginator(xform_name(operation))
        key = paginators()[operation]["result_key"]
        return [page[key] for page in paginator.paginate(**values, PaginationConfig={"PageSize": size})]


class AwsCli(Driver):
    """A process for each call."""

    # Its models are those of a botocore of its own, which is older than boto3's.
    lacks = frozenset({"ListNetworkConnectorVersions"})
    tells_pages = False
    ERROR = re.compile(r"An error occurred \((\w+)\) when calling the (\w+) operation(?: \(.*?\))?: (.*)", re.DOTALL)

    def _run(self, service, operation, values, *options):
        command = [VENV_BIN / "aws", service, xform_name(operation, "-"), "--output", "json",
                   "--cli-input-json", json.dumps(values), *options]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=120)
        if done.returncode == 0:
            return json.loads(done.stdout) if done.stdout.strip() else {}
        found = self.ERROR.search(done.stderr)
        assert found and found[2] == operation, f"{operation}: {done.stderr}"
        raise Refused(found[1], found[1], None, found[3])

    def _call(self, service, operation, values):
        return self._run(service, operation, values)

    def _pages(self, service, operation, size, values):
        output = self._run(service, operation, values, "--page-size", str(size))
        return [output[paginators()[operation]["result_key"]]]

    def knows(self, operation: str) -> bool:
        """Whether there is such a command."""
        command = [VENV_BIN / "aws", service_of(operation), xform_name(operation, "-"), "help"]
        done = subprocess.run(command, env=self.env | {"PAGER": "cat"}, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=120)
        return "Invalid choice" not in done.stderr


class Program(Driver):
    """A program that runs as long as the driver does."""

    command: list

    def __init__(self, server, env=None):
        super().__init__(server, env)
        assert os.path.exists(self.command[0]), f"{self.command[0]} is missing: run `make clients`"
        self.process = subprocess.Popen([str(part) for part in self.command], env=self.env, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _ask(self, **question):
        print(json.dumps(question), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        assert line, f"{self.command[0]} has ended at {question}"
        answer = json.loads(line)
        if error := answer.get("error"):
            raise Refused(**error)
        return answer

    def _call(self, service, operation, values):
        return self._ask(service=service, operation=operation, input=values)["output"]

    def _pages(self, service, operation, size, values):
        known = paginators()[operation]
        return self._ask(service=service, operation=operation, input=values, page_size=size,
                         items=known["result_key"])["pages"]

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(20) == 0


class JavaScript(Program):
    """The AWS SDK for JavaScript."""

    services = ("lambda-microvms",)
    unmodelled = "LambdaMicrovmsServiceException"
    command = [INSTALLED / "node/nodejs/bin/node", PROGRAMS / "node/client.mjs", INSTALLED / "node"]


class JavaScriptOfModel(Program):
    """The AWS SDK for JavaScript v2 with the model of lambda-core, whose client for v3 the npm
    registry does not have."""

    services = ("lambda-core",)
    _MODEL = pathlib.Path(botocore.__file__).parent / "data/lambda-core" / model.VERSIONS["lambda-core"]
    _FILES = (next(_MODEL.glob("service-2.json*")), next(_MODEL.glob("paginators-1.json*")))
    command = [INSTALLED / "node/nodejs/bin/node", PROGRAMS / "node/core.mjs", INSTALLED / "node", *_FILES]


class Rust(Program):
    """The AWS SDK for Rust."""

    unmodelled = "Unhandled"
    command = [RUST_CLIENT]


class Capo(Program):
    """capo-lambda-microvms, which is not AWS's."""

    services = ("lambda-microvms",)
    tells_pages = False
    unmodelled = "UnknownServiceError"
    command = [INSTALLED / "capo/bin/python", PROGRAMS / "capo/client.py"]

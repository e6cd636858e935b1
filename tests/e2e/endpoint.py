"""Clients of a server: boto3, the AWS CLI, and HTTPS to the endpoints of microVMs."""
import contextlib
import dataclasses
import http.client
import io
import json
import socket
import ssl
import subprocess

import boto3
from botocore.config import Config

import answers
from harness import ACCOUNT, REGION, VENV_BIN, Server, processes, wait_until

MIB = 1 << 20


@dataclasses.dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Clients:
    """What a user of one server holds."""

    def __init__(self, server: Server):
        self.server = server
        self.env = server.env()
        self.microvms = self.boto("lambda-microvms")
        # boto3 itself refuses idle times below the service's minimum.
        self.unchecked = self.boto("lambda-microvms", parameter_validation=False)
        self.core = self.boto("lambda-core")
        self.s3 = self.boto("s3")
        self.logs = self.boto("logs")

    def boto(self, service: str, signature_version: str | None = None, parameter_validation: bool = True,
             inject_host_prefix: bool = True, **others):
        """A client; `others` are arguments of boto3's in place of the server's root
        user and address."""
        chosen = {"endpoint_url": self.server.api_url, "aws_access_key_id": self.env["AWS_ACCESS_KEY_ID"],
                  "aws_secret_access_key": self.env["AWS_SECRET_ACCESS_KEY"]} | others
        config = Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, read_timeout=60,
                        signature_version=signature_version, parameter_validation=parameter_validation,
                        inject_host_prefix=inject_host_prefix)
        client = boto3.client(service, region_name=REGION, config=config, **chosen)
        answers.watch(client)
        return client

    def aws(self, *arguments: str, parse: bool = True):
        """Runs the AWS CLI; what it prints, as JSON unless told otherwise."""
        done = subprocess.run([VENV_BIN / "aws", *arguments], env=self.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"aws {' '.join(arguments)}: {done.stderr}"
        return json.loads(done.stdout) if parse and done.stdout.strip() else done.stdout

    def image_arn(self, name: str) -> str:
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:microvm-image:{name}"

    def create_image(self, name: str, uri: str, **more) -> str:
        """Calls CreateMicrovmImage with the smallest size; the ARN."""
        wanted = dict(
            name=name, codeArtifact={"uri": uri}, buildRoleArn=f"arn:aws:iam::{ACCOUNT}:role/build",
            baseImageArn=f"arn:aws:lambda:{REGION}:aws:microvm-image:al2023-1",
            resources=[{"minimumMemoryInMiB": 512}],
        ) | more
        return self.microvms.create_microvm_image(**wanted)["imageArn"]

    def wait_built(self, arn: str, timeout: float = 600, version: str = "1.0") -> tuple[str, str | None]:
        """The image's state once it is settled, and the `stateReason` of its build."""
        def settled():
            state = self.microvms.get_microvm_image(imageIdentifier=arn)["state"]
            return None if state in ("CREATING", "UPDATING") else state
        state = wait_until(settled, timeout, f"{arn} is built", pause=0.2)
        builds = self.microvms.list_microvm_image_builds(imageIdentifier=arn, imageVersion=version)["items"]
        return state, builds[0].get("stateReason")

    def image_state(self, arn: str) -> str | None:
        """None if there is no such image."""
        try:
            return self.microvms.get_microvm_image(imageIdentifier=arn)["state"]
        except self.microvms.exceptions.ResourceNotFoundException:
            return None

    def delete_image(self, arn: str) -> None:
        """Deletes an image, if there is one, and waits until its name is free."""
        if self.image_state(arn) not in (None, "DELETING"):
            self.microvms.delete_microvm_image(imageIdentifier=arn)
        wait_until(lambda: self.image_state(arn) is None, 30, f"{arn} is deleted")

    def delete_connector(self, name: str) -> None:
        """Deletes a network connector, if there is one, and waits until its name is free."""
        def state() -> tuple[str, str] | None:
            listed = self.core.list_network_connectors()["NetworkConnectors"]
            return next(((item["Id"], item["State"]) for item in listed if item["Name"] == name), None)
        if (found := state()) and found[1] != "DELETING":
            self.core.delete_network_connector(Identifier=found[0])
        wait_until(lambda: state() is None, 30, f"{name} is deleted")

    def end_microvms(self, image: str) -> None:
        """Terminates the microVMs of an image, and waits until they have ended."""
        def left() -> list[str]:
            pages = self.microvms.get_paginator("list_microvms").paginate()
            return [item["microvmId"] for page in pages for item in page["items"]
                    if item["imageArn"] == image and item["state"] != "TERMINATED"]
        for identifier in left():
            self.microvms.terminate_microvm(microvmIdentifier=identifier)
        wait_until(lambda: not left(), 30, f"the microVMs of {image} have ended")

    def log_lines(self, group: str, stream: str = "", since: int = 0) -> list[str]:
        """Every line of a log group since a time in ms, from streams whose names
        contain `stream`."""
        lines = []
        # There is no group before its first line.
        with contextlib.suppress(self.logs.exceptions.ResourceNotFoundException):
            for page in self.logs.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=since):
                lines += [event["message"] for event in page["events"] if stream in event["logStreamName"]]
        return lines

    def run(self, image: str, wait: bool = True, idle: int = 600, suspended: int = 600, auto_resume: bool = True,
            **more) -> "Microvm":
        policy = {"maxIdleDurationSeconds": idle, "suspendedDurationSeconds": suspended, "autoResumeEnabled": auto_resume}
        answer = self.unchecked.run_microvm(imageIdentifier=image, idlePolicy=policy, **more)
        microvm = Microvm(self, answer["microvmId"], answer["endpoint"])
        if wait:
            microvm.wait_state("RUNNING")
        return microvm


class EndpointConnection(http.client.HTTPConnection):
    """TLS to an endpoint by its name, which nobody needs to resolve: all endpoints
    are on loopback."""

    def __init__(self, endpoint: str, port: int, ca_bundle: str, timeout: float = 60):
        super().__init__(endpoint.split(":")[0], port, timeout=timeout)
        self.context = ssl.create_default_context(cafile=ca_bundle)

    def connect(self):
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=self.timeout)
        self.sock = self.context.wrap_socket(plain, server_hostname=self.host)


class Microvm:
    """One microVM as its user sees it."""

    def __init__(self, clients: Clients, identifier: str, endpoint: str):
        self.clients, self.id, self.endpoint = clients, identifier, endpoint
        self._token = None

    def get(self) -> dict:
        return self.clients.microvms.get_microvm(microvmIdentifier=self.id)

    @property
    def state(self) -> str:
        return self.get()["state"]

    def wait_state(self, *states: str, timeout: float = 30) -> str:
        seen = set()

        def reached():
            seen.add(state := self.state)
            return state if state in states else None
        try:
            return wait_until(reached, timeout, f"{self.id} is {' or '.join(states)}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it was {seen}: {self.get().get('stateReason')}") from None

    def token(self, *ports: dict, minutes: int = 30) -> str:
        allowed = list(ports) or [{"allPorts": {}}]
        answer = self.clients.microvms.create_microvm_auth_token(
            microvmIdentifier=self.id, expirationInMinutes=minutes, allowedPorts=allowed)
        return answer["authToken"]["X-aws-proxy-auth"]

    def connection(self, timeout: float = 60) -> EndpointConnection:
        """A connection of one's own, for streams."""
        bundle = self.clients.env["HEARTH_CA_BUNDLE"]
        return EndpointConnection(self.endpoint, self.clients.server.endpoint_port, bundle, timeout)

    def headers(self, port: int | None = None, token: str | None = None) -> dict[str, str]:
        self._token = self._token or self.token()
        headers = {"X-aws-proxy-auth": token or self._token, "Host": self.endpoint}
        return headers | ({"X-aws-proxy-port": str(port)} if port else {})

    def request(self, path: str = "/", method: str = "GET", body=None, port: int | None = None,
                token: str | None = None, headers: dict | None = None, timeout: float = 60) -> Response:
        with contextlib.closing(self.connection(timeout)) as connection:
            chosen = self.headers(port, token) if headers is None else headers
            chunked = isinstance(body, io.IOBase)
            connection.request(method, path, body=body, headers=chosen, encode_chunked=chunked)
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Response(answer.status, headers, answer.read())

    def count(self) -> int:
        answer = self.request("/count")
        assert answer.status == 200, answer
        return int(answer.text)

    def sh(self, command: str, check: bool = True) -> str:
        """Runs a shell command inside, through the probe; its output without the
        last line's end."""
        answer = self.request("/", "POST", command.encode(), port=8081)
        assert answer.status == 200, answer
        assert not check or answer.headers["x-status"] == "0", f"{command}: {answer.text}"
        return answer.text.rstrip("\n")

    def reaches(self, *places: str) -> dict[str, str]:
        """Whether TCP connections from inside to HOST:PORT succeed: `open: BANNER` or
        `closed: REASON`."""
        answers = dict(line.split(" ", 1) for line in self.sh(f"perl probe.pl connect {' '.join(places)}").splitlines())
        assert set(answers) == set(places), answers
        return answers

    def reaches_any(self, places) -> dict[str, str]:
        """Those of the places to which a connection was made."""
        return {place: answer for place, answer in self.reaches(*places).items() if not answer.startswith("closed")}

    def vmm(self) -> int | None:
        """Process of its VMM on the host."""
        found = processes(self.id)
        assert len(found) <= 1, found
        return found[0] if found else None

    def suspend(self) -> None:
        self.clients.microvms.suspend_microvm(microvmIdentifier=self.id)
        self.wait_state("SUSPENDED")

    def terminate(self, wait: bool = True) -> None:
        self.clients.microvms.terminate_microvm(microvmIdentifier=self.id)
        if wait:
            self.wait_state("TERMINATED")


def again(server: Server, *microvms: Microvm) -> Clients:
    """Starts the server again, on other ports."""
    clients = Clients(server.start())
    for microvm in microvms:
        microvm.clients = clients
        microvm.endpoint = microvm.get()["endpoint"]
    return clients

"""The service under test: a server of the bench's own, its images, its microVMs, and
clients for them."""
import hashlib
import http.client
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import time

import boto3
from botocore.config import Config

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HEARTH = pathlib.Path(os.environ.get("HEARTH_BIN", ROOT / "target/release/hearth"))
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "hearth"
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 60
STATE_TIMEOUT_SECONDS = 60
# Under software emulation on two slow cores.
BUILD_TIMEOUT_SECONDS = 30 * 60


class Failure(Exception):
    """A sentence about what keeps the bench from going on."""


class App:
    """One of the example images: what it is made of and how it is asked."""

    def __init__(self, key: str, directory: str, port: int, path: str, touch: str | None):
        self.key, self.directory, self.port, self.path = key, ROOT / "examples" / directory, port, path
        # Path that makes the app fill 64 MiB, if it can.
        self.touch = touch

    def image_name(self) -> str:
        """Changes with the source and with the guest files, which are part of the snapshot."""
        digest = hashlib.sha256((CACHE / "initrd.img").read_bytes())
        digest.update(os.path.realpath(CACHE / "guest/1").encode())
        for file in sorted(self.directory.iterdir()):
            if file.is_file() and file.name != "README.md":
                digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        return f"{self.key}-{digest.hexdigest()[:12]}"

    def start_spec(self) -> dict:
        """CMD and WORKDIR of the Dockerfile, as the agent wants them (`AppSpec` of
        the guest protocol)."""
        dockerfile = (self.directory / "Dockerfile").read_text()
        workdir = re.search(r"^WORKDIR (\S+)", dockerfile, re.MULTILINE)
        return {
            "root_disk": "root",
            "argv": json.loads(re.search(r"^CMD (\[.*\])", dockerfile, re.MULTILINE)[1]),
            "env": {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            "working_dir": workdir[1] if workdir else "",
            "user": "",
            "hostname": "localhost",
            "capabilities": "default",
        }


APPS = {
    "perl": App("perl", "perl-counter", 8080, "/count", "/touch?mib=64"),
    "flask": App("flask", "flask", 5000, "/", None),
}


class Service:
    """A running server with its data directory, and further settings (TOML). To be closed."""

    def __init__(self, data_dir: pathlib.Path, settings: str = ""):
        data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir, self.log = data_dir, data_dir / "server.log"
        command = [HEARTH, "serve", "--data-dir", data_dir, "--api-addr", "127.0.0.1:0", "--endpoint-addr", "127.0.0.1:0",
                   "--on-stop", "suspend"]
        config = data_dir / "bench.toml"
        config.write_text(settings)
        command += ["--config", config]
        with open(self.log, "w") as log:
            # A session of its own: Ctrl-C reaches the bench alone, which then stops
            # the server in order.
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
        try:
            self._connect()
        except BaseException:
            self.stop()
            raise

    def _connect(self):
        line = self.process.stdout.readline().strip()
        if not line.startswith("hearth ready"):
            last = self.log.read_text().strip().rsplit("\n", 1)[-1]
            raise Failure(f"the server did not start: {last or 'see ' + str(self.log)}")
        environment = dict(re.findall(r"^export (\w+)=(\S*)$", self.hearth("env"), re.MULTILINE))
        environment = {name: value.strip("'\"") for name, value in environment.items()}
        self.tls = ssl.create_default_context(cafile=environment["HEARTH_CA_BUNDLE"])
        self.api = boto3.client(
            "lambda-microvms",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            region_name=environment["AWS_REGION"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            config=Config(connect_timeout=10, read_timeout=60, retries={"total_max_attempts": 1}),
        )
        self.terminate_all()

    def hearth(self, *arguments: str, timeout: float = 120) -> str:
        """Runs a command of the command line; its output."""
        command = [HEARTH, *arguments, "--data-dir", self.data_dir]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=timeout)
        if done.returncode != 0:
            raise Failure(f"`hearth {' '.join(arguments)}` ended with status {done.returncode}")
        return done.stdout

    def ensure_image(self, app: App) -> tuple[str, float | None]:
        """ARN of the app's image, and the seconds of its build if it was not there yet."""
        name, seconds = app.image_name(), None
        images = {item["name"]: item for item in self.api.list_microvm_images()["items"]}
        for old in images:
            if old != name and old.startswith(app.key + "-"):
                self.hearth("image", "delete", old)
        if images.get(name, {}).get("state") != "CREATED":
            begin = time.monotonic()
            print(f"Building {app.directory.relative_to(ROOT)}; later runs find the image.", flush=True)
            options = ["--name", name, "--memory", "512", "--replace"]
            self.hearth("image", "build", str(app.directory), *options, timeout=BUILD_TIMEOUT_SECONDS)
            seconds = time.monotonic() - begin
            images = {item["name"]: item for item in self.api.list_microvm_images()["items"]}
        return images[name]["imageArn"], seconds

    def run(self, image: str) -> dict:
        """RunMicrovm; the microVM is suspended only when asked to."""
        policy = {"maxIdleDurationSeconds": 3600, "suspendedDurationSeconds": 3600, "autoResumeEnabled": True}
        return self.api.run_microvm(imageIdentifier=image, idlePolicy=policy)

    def token(self, microvm: dict, port: int) -> str:
        ports = [{"port": port}]
        answer = self.api.create_microvm_auth_token(
            microvmIdentifier=microvm["microvmId"], expirationInMinutes=30, allowedPorts=ports
        )
        return answer["authToken"]["X-aws-proxy-auth"]

    def get(self, microvm: dict, token: str, port: int, path: str, timeout: float = 60) -> bytes:
        """GET over a fresh connection with a full TLS handshake; anything but 200 is a failure."""
        host, endpoint_port = microvm["endpoint"].rsplit(":", 1)
        with socket.create_connection(("127.0.0.1", int(endpoint_port)), timeout=timeout) as plain:
            connection = http.client.HTTPConnection(host, int(endpoint_port))
            connection.sock = self.tls.wrap_socket(plain, server_hostname=host)
            headers = {"X-aws-proxy-auth": token, "X-aws-proxy-port": str(port)}
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
        if answer.status != 200:
            raise Failure(f"GET {path} of {microvm['microvmId']} answered {answer.status}: {body[:200]!r}")
        return body

    def wait_for_state(self, microvm: dict, state: str):
        """Polls GetMicrovm every 2 ms."""
        deadline = time.monotonic() + STATE_TIMEOUT_SECONDS
        while (found := self.api.get_microvm(microvmIdentifier=microvm["microvmId"]))["state"] != state:
            if found["state"] == "TERMINATED" or time.monotonic() > deadline:
                raise Failure(f"{microvm['microvmId']} is {found['state']}, not {state}: {found.get('stateReason')}")
            time.sleep(0.002)

    def suspend(self, microvm: dict):
        """SuspendMicrovm, until the state is SUSPENDED."""
        self.api.suspend_microvm(microvmIdentifier=microvm["microvmId"])
        self.wait_for_state(microvm, "SUSPENDED")

    def terminate(self, *microvms: dict):
        for microvm in microvms:
            self.api.terminate_microvm(microvmIdentifier=microvm["microvmId"])
        for microvm in microvms:
            self.wait_for_state(microvm, "TERMINATED")

    def terminate_all(self):
        """Also ends what an interrupted run may have left."""
        items = self.api.get_paginator("list_microvms").paginate().build_full_result()["items"]
        self.terminate(*(item for item in items if item["state"] not in ("TERMINATED", "TERMINATING")))

    def close(self):
        """Ends all microVMs and the server, even when the former fails."""
        try:
            if self.process.poll() is None:
                self.terminate_all()
        finally:
            self.stop()

    def stop(self):
        """SIGTERM, and a complaint if that does not do."""
        self.process.terminate()
        try:
            self.process.wait(timeout=STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failure(f"the server did not stop within {STOP_TIMEOUT_SECONDS} s of SIGTERM; see {self.log}") from None

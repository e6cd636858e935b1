"""A client of shells: the frames as the service has them, over Python's websockets."""
import contextlib
import json
import re
import socket
import time

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from endpoint import Microvm
from locked_tls import client_context

MANAGED = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:"
HTTP_AND_SHELL = [MANAGED + "HTTP_INGRESS", MANAGED + "SHELL_INGRESS"]


def shell_token(microvm: Microvm) -> str:
    answer = microvm.clients.microvms.create_microvm_shell_auth_token(
        microvmIdentifier=microvm.id, expirationInMinutes=30)
    return answer["authToken"]["X-aws-proxy-auth"]


class Shell:
    """A shell on a microVM. Everything that it prints is kept."""

    def __init__(self, microvm: Microvm, path: str = "/shell", token: str | None = None, port: int | None = 8022,
                 **options):
        self.token = token or shell_token(microvm)
        headers = {"x-aws-proxy-auth": self.token}
        if port:
            headers["x-aws-proxy-port"] = str(port)
        plain = socket.create_connection(("127.0.0.1", microvm.clients.server.endpoint_port), timeout=60)
        context = client_context(microvm.clients.env["HEARTH_CA_BUNDLE"])
        self.open = contextlib.ExitStack()
        self.socket = self.open.enter_context(connect(
            f"wss://{microvm.endpoint}{path}", sock=plain, ssl=context, open_timeout=90,
            server_hostname=microvm.endpoint.split(":")[0], additional_headers=headers, ping_interval=None, **options))
        greeting = json.loads(self.socket.recv(timeout=60))
        assert greeting["type"] == "session_init" and set(greeting) == {"type", "session_id"}, greeting
        self.session = greeting["session_id"]
        self.printed, self.texts = b"", []

    def type(self, text: str | bytes) -> None:
        self.socket.send(text.encode() if isinstance(text, str) else text)

    def resize(self, columns: int, rows: int) -> None:
        self.socket.send(json.dumps({"type": "resize", "cols": columns, "rows": rows}))

    def wait_for(self, pattern: str, timeout: float = 60) -> re.Match:
        """Reads until what was printed since the last match has this in it; what comes
        before is forgotten."""
        deadline = time.monotonic() + timeout
        while True:
            if found := re.search(pattern.encode(), self.printed, re.DOTALL):
                self.printed = self.printed[found.end():]
                return found
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} was not printed within {timeout:g} s: {self.printed[-2000:]!r}"
            with contextlib.suppress(TimeoutError):
                self.receive(left)

    def receive(self, timeout: float = 60) -> None:
        message = self.socket.recv(timeout=timeout)
        if isinstance(message, str):
            self.texts.append(json.loads(message))
        else:
            self.printed += message

    def run(self, command: str, timeout: float = 60) -> str:
        """Types a command; what it prints, lines ended as in a file."""
        # The echo of what was typed has quotes in it, the output has none.
        self.type(f"echo be''gin; {command}; echo en''d $?\r")
        self.wait_for("begin\r\n", timeout)
        found = self.wait_for(r"(?s)^(.*?)end (\d+)\r\n", timeout)
        self.status = int(found[2])
        return found[1].decode().replace("\r\n", "\n").rstrip("\n")

    def closed(self, timeout: float = 60) -> tuple[int, str]:
        """Reads to the end; code and reason of the close frame."""
        try:
            while True:
                self.receive(timeout)
        except ConnectionClosed as end:
            assert end.rcvd, "the connection ended without a close frame"
            return end.rcvd.code, end.rcvd.reason

    def close(self) -> None:
        self.open.close()

    def cut(self) -> None:
        """Ends the TCP connection without a word."""
        self.socket.socket.shutdown(socket.SHUT_RDWR)

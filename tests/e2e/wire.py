"""Raw requests, signed with botocore's SigV4: also what no client would send. The
answer is as it came."""
import dataclasses
import json
import urllib.error
import urllib.request

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from harness import REGION


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str | None:
        """Class of the error, without the URL that the service adds at times."""
        kind = self.headers.get("x-amzn-errortype")
        return kind.split(":")[0] if kind else None

    @property
    def json(self):
        """The body; None when it is empty or no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def message(self) -> str:
        """Text of an error; lambda-core writes the name of the member with a capital."""
        body = self.json if isinstance(self.json, dict) else {}
        return body.get("message") or body.get("Message") or ""

    def __str__(self):
        return f"HTTP {self.status} {self.error or ''} {self.body[:500].decode(errors='replace')}"


def send(clients, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None,
         secret: str | None = None, keys: Credentials | None = None) -> Answer:
    """Sends it for the service `lambda`, with the session's keys unless others are given."""
    keys = keys or Credentials(clients.env["AWS_ACCESS_KEY_ID"], secret or clients.env["AWS_SECRET_ACCESS_KEY"])
    headers = {"Content-Type": "application/json", **(headers or {})}
    request = AWSRequest(method, clients.server.api_url + path, headers, body)
    botocore.auth.SigV4Auth(keys, "lambda", REGION).add_auth(request)
    plain = urllib.request.Request(request.url, body, dict(request.headers), method=method)
    try:
        answer = urllib.request.urlopen(plain, timeout=20)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read())

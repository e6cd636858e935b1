"""Requests as bytes and answers as bytes: what no HTTP library would send, and a strict look
at what comes back."""
import contextlib
import dataclasses
import datetime
import hashlib
import hmac
import socket
import time
import urllib.parse

from harness import REGION
from wire import Answer

UNRESERVED = "-._~"


class Broken(AssertionError):
    """What came back is no sequence of HTTP/1.1 answers."""


@dataclasses.dataclass(frozen=True)
class Keys:
    access: str
    secret: str


# Signatures.

def signature(keys: Keys, service: str, method: str, path: bytes, query: bytes, headers: dict[str, str], payload: str,
              moment: str) -> str:
    """SigV4 over the bytes as they are sent; every header given is signed."""
    encoded_once = service == "s3"
    canonical_path = path.decode("latin-1") if encoded_once else urllib.parse.quote_from_bytes(path, "/" + UNRESERVED)
    pairs = [pair.split(b"=", 1) for pair in query.split(b"&") if pair]
    encoded = sorted([urllib.parse.quote_from_bytes(urllib.parse.unquote_to_bytes(part), UNRESERVED)
                      for part in (pair[0], pair[1] if len(pair) > 1 else b"")] for pair in pairs)
    lines = [method, canonical_path, "&".join("=".join(pair) for pair in encoded),
             *(f"{name}:{headers[name]}" for name in sorted(headers)), "", ";".join(sorted(headers)), payload]
    scope = f"{moment[:8]}/{REGION}/{service}/aws4_request"
    digest = hashlib.sha256("\n".join(lines).encode("latin-1")).hexdigest()
    key = ("AWS4" + keys.secret).encode()
    for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")


def authorization(keys: Keys, service: str, method: str, path: bytes, query: bytes, host: str,
                  body: bytes) -> dict[str, str]:
    """The headers that sign a request."""
    payload, moment = hashlib.sha256(body).hexdigest(), now()
    signed = {"host": host, "x-amz-content-sha256": payload, "x-amz-date": moment}
    mark = signature(keys, service, method, path, query, signed, payload, moment)
    claim = (f"AWS4-HMAC-SHA256 Credential={keys.access}/{moment[:8]}/{REGION}/{service}/aws4_request, "
             f"SignedHeaders={';'.join(signed)}, Signature={mark}")
    return {"authorization": claim, "x-amz-content-sha256": payload, "x-amz-date": moment}


def presigned(keys: Keys, service: str, method: str, path: bytes, query: bytes, host: str, body: bytes) -> bytes:
    """The query with a signature in it."""
    moment = now()
    members = {"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Date": moment, "X-Amz-Expires": "60",
               "X-Amz-Credential": f"{keys.access}/{moment[:8]}/{REGION}/{service}/aws4_request",
               "X-Amz-SignedHeaders": "host"}
    query = b"&".join(filter(None, [query, urllib.parse.urlencode(members).encode()]))
    payload = "UNSIGNED-PAYLOAD" if service == "s3" else hashlib.sha256(body).hexdigest()
    mark = signature(keys, service, method, path, query, {"host": host}, payload, moment)
    return query + b"&X-Amz-Signature=" + mark.encode()


# Bytes.

def exchange(address: tuple[str, int], sent: bytes, more: bool, timeout: float) -> bytes:
    """Sends bytes on a connection of their own; all that comes back until the server closes it.
    Without `more`, the server learns that nothing follows."""
    deadline, received = time.monotonic() + timeout, bytearray()
    with socket.create_connection(address, timeout=timeout) as connection:
        try:
            connection.sendall(sent)
            if not more:
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(1 << 16):
                received += chunk
                connection.settimeout(max(0.01, deadline - time.monotonic()))
        except TimeoutError:
            raise Broken(f"no end of the answer within {timeout:g} s; so far {bytes(received[:300])!r}") from None
        except OSError:
            # The server need not read to the end what it refuses.
            received += _rest(connection)
    return bytes(received)


def _rest(connection: socket.socket) -> bytes:
    """What had come before the connection was reset."""
    with contextlib.suppress(OSError):
        return connection.recv(1 << 16)
    return b""


def parse(received: bytes, head_only: bool) -> list[Answer]:
    """The answers, with every byte accounted for; `head_only`: the first is to a HEAD."""
    found = []
    while received:
        head, separator, received = received.partition(b"\r\n\r\n")
        if not separator:
            raise Broken(f"an answer without the end of its head: {head[:300]!r}")
        status, headers = _head(head)
        if status == 100:
            continue
        bodyless = status in (204, 304) or (head_only and not found)
        body, received = (b"", received) if bodyless else _body(headers, received)
        found.append(Answer(status, headers, body))
    return found


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    if len(parts) < 2 or parts[0] not in ("HTTP/1.1", "HTTP/1.0") or not (parts[1].isdigit() and len(parts[1]) == 3):
        raise Broken(f"no status line: {first[:300]!r}")
    headers = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if not separator or not name or name != name.strip() or any(ord(c) < 32 and c != "\t" for c in line):
            raise Broken(f"no header: {line[:300]!r}")
        headers[name.lower()] = value.strip()
    return int(parts[1]), headers


def _body(headers: dict[str, str], received: bytes) -> tuple[bytes, bytes]:
    """The body and what follows it."""
    if headers.get("transfer-encoding") == "chunked":
        return _chunks(received)
    length = int(headers.get("content-length", len(received)))
    if len(received) < length:
        raise Broken(f"a body of {len(received)} bytes where {length} were promised")
    return received[:length], received[length:]


def _chunks(received: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, separator, received = received.partition(b"\r\n")
        if not separator:
            raise Broken("a chunked body without its end")
        count = int(size.split(b";")[0], 16)
        body, end, received = body + received[:count], received[count:count + 2], received[count + 2:]
        if end != b"\r\n":
            raise Broken("a chunk that does not end where it says")
        if count == 0:
            return body, received

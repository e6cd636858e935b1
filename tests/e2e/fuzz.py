"""Ways to spoil a request: strange values, pieces, framings, signatures. As
hypothesis strategies."""
import copy
import dataclasses
import functools
import json
import typing

from hypothesis import strategies as st

import raw_http
from harness import ACCOUNT, REGION

COMPANIONS = ("logs", "sts", "iam", "service-quotas")
# Names that requests agree on, so that they meet each other's resources.
IMAGES = [f"fuzz-{letter}" for letter in "abcdefgh"]
METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"BREW"]


@dataclasses.dataclass(frozen=True)
class Request:
    """A request before its signature, which depends on the time."""

    method: bytes
    path: bytes
    query: bytes = b""
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    service: str = "lambda"
    signed: str = "header"      # or query, not, or odd: the header with a piece changed
    framing: str = "whole"
    cut: int = 0

    def __repr__(self):
        # Some are very long, and a report is to be read.
        shown = ((field.name, repr(getattr(self, field.name))) for field in dataclasses.fields(self))
        short = (f"{name}={text if len(text) < 400 else f'{text[:400]}… ({len(text)})'}" for name, text in shown)
        return f"Request({', '.join(short)})"

    @property
    def is_http(self) -> bool:
        """Whether a server has to take it for a complete HTTP request, whatever it answers."""
        parts = (self.path, self.query, *(piece for header in self.headers for piece in header))
        plain = all(33 <= byte < 127 for part in (self.path, self.query) for byte in part)
        small = sum(map(len, parts)) < 60_000 and len(self.headers) < 80
        sound = all(_is_header(name, value) for name, value in self.headers)
        unframed = not any(name.lower() in FRAMING_HEADERS for name, _ in self.headers)
        uri = self.path.startswith(b"/") and not set(self.path + self.query) & set(b'<>"{}|\\^`#')
        return plain and small and sound and unframed and uri and self.framing in ("whole", "chunked")

    def to_bytes(self, keys: raw_http.Keys, host: str) -> bytes:
        method, query, headers = self.method.decode(), self.query, list(self.headers)
        claim = (method, self.path, query, host, self.body)
        match self.signed:
            case "query":
                query = raw_http.presigned(keys, self.service, *claim)
            case "header" | "odd":
                told = raw_http.authorization(keys, self.service, *claim)
                if self.signed == "odd":
                    told["authorization"] = _odd(told["authorization"], self.cut)
                headers += [(name.encode(), value.encode("latin-1")) for name, value in told.items()]
        headers = [(b"host", host.encode()), *headers]
        target = self.path + (b"?" + query if query else b"")
        framing, body = self._framed()
        lines = [b" ".join((self.method, target, b"HTTP/1.1")), *(b": ".join(header) for header in headers + framing)]
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    def _framed(self) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Headers that say how long the body is, truly or not, and the body."""
        length = lambda count: (b"content-length", str(count).encode())
        close, chunked = (b"connection", b"close"), (b"transfer-encoding", b"chunked")
        size, body = len(self.body), self.body
        match self.framing:
            case "whole":
                return [close, length(size)], body
            case "chunked":
                parts = [body[start:start + 1000] for start in range(0, size, 1000)]
                return [close, chunked], b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
            case "bad chunks":
                return [close, chunked], b"%x\r\n%b" % (self.cut, body)
            case "cut":
                return [close, length(size + 1)], body[:self.cut % (size + 1)]
            case "short":
                return [length(max(0, size - 1 - self.cut % 9))], body
            case "two lengths":
                return [close, length(size), length(size + self.cut)], body
            case "both":
                return [close, length(size), chunked], body
            case "followed":
                return [length(size)], body + JUNK[self.cut % len(JUNK)]
        raise AssertionError(self.framing)


FRAMINGS = ["chunked", "bad chunks", "cut", "short", "two lengths", "both", "followed"]
FRAMING_HEADERS = {b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade", b"host"}
JUNK = [
    b"\r\n", b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n", b"\xff\xfe", b"POST /2025-09-09/microvms HTTP/1.1\r\n",
    b"GET /2025-09-09/microvms HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


def _is_header(name: bytes, value: bytes) -> bool:
    token = name and all(chr(byte).isalnum() or byte in b"!#$%&'*+-.^_`|~" for byte in name) and name.isascii()
    return bool(token) and all(byte >= 32 and byte != 127 or byte == 9 for byte in value)


def _odd(authorization: str, cut: int) -> str:
    """The header with one piece missing, doubled or strange."""
    pieces = authorization.split(" ")
    at = cut % len(pieces)
    strange = ["", pieces[at] * 2, pieces[at][:len(pieces[at]) // 2], "Credential=////", "Signature=\xe9", "=,=,",
               f"Credential=AKID/{raw_http.now()[:8]}/{REGION}/lambda/aws4_request/more,", "SignedHeaders=;;host;,"]
    return " ".join([*pieces[:at], strange[cut // len(pieces) % len(strange)], *pieces[at + 1:]])


# Values.

ODD_TEXTS = [
    "", " ", "\0", "a" * 70_000, "..", "../../etc/passwd", "%", "%zz", "%00", "\ud800", "\U0001f600", "e\u0301",
    "\u202e", "null", "0", "-1", "1.0", "1.", "4294967296.0", "9" * 400, "2025-01-01T00:00:00Z",
    "'; DROP TABLE images; --", "*", "{}", "arn:", "arn:aws:lambda:::microvm-image:",
    f"arn:aws:lambda:{REGION}:{ACCOUNT}:microvm-image:", "s3://", "s3:///", "s3://fuzz-bucket", "microvm-",
    "microvm-00000000-0000-0000-0000-00000000000g", "nc-", "aws:tag", "CREATED",
    f"arn:aws:lambda:{REGION}:{ACCOUNT}:network-connector:",
    f"arn:aws:lambda:eu-west-1:{ACCOUNT}:microvm-image:{IMAGES[0]}",
    f"arn:aws:lambda:{REGION}:111111111111:microvm-image:{IMAGES[0]}",
    f"arn:aws:lambda:{REGION}:aws:microvm-image:al2023-1",
]
ODD_NUMBERS = [0, -1, 1, 49, 51, 2**31, 2**32, 2**63 - 1, 2**63, -2**63 - 1, 2**64, 10**400, 0.5, 1e308, -0.0, 1e-300]
TEXTS = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=30))
SCALARS = st.one_of(TEXTS, st.sampled_from(ODD_NUMBERS), st.booleans(), st.none(), st.integers())
LEAVES = st.one_of(SCALARS, SCALARS, SCALARS.filter(lambda one: len(str(one)) < 100).map(lambda one: [one] * 300))
VALUES = st.recursive(LEAVES, lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=3)), max_leaves=6)
# Texts in place of a JSON document or one of its values.
ODD_JSON = [
    b"[" * 100_000, b'{"a":' * 50_000, b"[" * 127 + b"]" * 127, b"1e400", b"-", b"9" * 10_000,
    b"1" + b"0" * 400 + b".0", b"\xff", b"\xed\xa0\x80", b'"\\ud800"', b'"\\x"', b"NaN", b"Infinity", b"tru",
    b"\xef\xbb\xbf{}", b"{}{}", b'{"":{"":{}}}', b"{'a':1}", b"[1,]", b"/**/{}", b'"' + b"a" * 200_000 + b'"',
    b"{" + b",".join(b'"k%d":1' % n for n in range(20_000)) + b"}",
]


def places(value, path: tuple = ()) -> typing.Iterator[tuple]:
    """Paths of everything inside a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


@st.composite
def mutated(draw, value):
    """The value with up to three places changed, removed or added to."""
    value = {"": copy.deepcopy(value)}
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 1, 2, 3]))):
        *path, key = draw(st.sampled_from([place for place in places(value) if place]))
        parent = functools.reduce(lambda part, step: part[step], path, value)
        match draw(st.sampled_from(["change", "change", "remove", "add"])):
            case "remove" if path:
                del parent[key]
            case "add" if isinstance(parent, dict) and path:
                parent[draw(TEXTS)] = draw(VALUES)
            case _:
                parent[key] = draw(VALUES)
    return value[""]


@st.composite
def spoiled(draw, text: bytes):
    """A JSON text, at times with bytes that are none: doubled members, cuts, strange pieces."""
    how = draw(st.sampled_from([""] * 15 + ["double", "cut", "insert", "replace", "value"]))
    at = draw(st.integers(0, max(0, len(text) - 1)))
    odd = st.sampled_from(ODD_JSON)
    match how:
        case "double" if text.startswith(b"{") and len(text) > 2:
            return b"{" + text[1:-1] + b"," + text[1:-1] + b"}"
        case "cut":
            return text[:at]
        case "insert":
            return text[:at] + draw(st.binary(min_size=1, max_size=4)) + text[at:]
        case "replace":
            return draw(odd)
        case "value" if b":" in text:
            head, _, tail = text.partition(b":")
            return head + b":" + draw(odd) + b"," + tail
    return text


def dump(value) -> bytes:
    """JSON with lone surrogates as escapes."""
    return json.dumps(value).encode()


# Requests.

ODD_HEADERS = [
    (b"content-type", b"text/plain; charset=\xff"), (b"content-type", b""), (b"x-amz-date", b"20990101T000000Z"),
    (b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD"), (b"x-amz-content-sha256", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
    (b"content-encoding", b"gzip"), (b"content-encoding", b"aws-chunked"), (b"x-amz-decoded-content-length", b"-1"),
    (b"x-amz-security-token", b"x" * 5000), (b"authorization", b"Basic AAAA"), (b"authorization", b"\xff"),
    (b"authorization", b"AWS4-HMAC-SHA256"), (b"content-length", b"-1"), (b"content-length", b"9" * 30),
    (b"host", b"other"), (b"transfer-encoding", b"gzip, chunked"), (b"expect", b"100-continue"),
    (b"expect", b"200-fine"), (b"upgrade", b"h2c"), (b"range", b"bytes=9-1,-0,99999999999999999999-"),
    (b"x-big", b"b" * (1 << 20)), (b"x-large", b"l" * 50_000), (b"x-http-method-override", b"DELETE"),
    (b"", b"no name"), (b"bad name", b"x"), (b"x-bare-lf", b"a\nb: c"), (b"x-nul", b"a\0b"),
    (b"x-utf8", "\u00fc\U0001f600".encode()), (b"x-amz-target", b"Logs_20140328."), (b"cookie", b";" * 9000),
    (b"if-match", b'"\\"'), (b"if-modified-since", b"yesterday"), (b"content-md5", b"!"),
    (b"x-amz-checksum-sha256", b"-"), (b"x-amz-sdk-checksum-algorithm", b"ROT13"),
    (b"x-amz-copy-source", b"/fuzz-bucket/%zz"), (b"x-amz-trailer", b"x-amz-checksum-crc32"),
]
ODD_PATHS = [
    b"/", b"//", b"/%", b"/%zz", b"/%ff%fe", b"/%00", b"/..", b"/a/../..", b"*", b"", b"no-slash", b"/\xff", b"/a b",
    b"http://x/", b"/2025-09-09", b"/2025-09-09/", b"/2025-09-09/microvms/", b"/2025-09-09//microvms",
    b"/2025-09-09/microvms/%2f%2f/suspend", b"/2025-09-09/microvms/%ff", b"/2017-03-31/tags/",
    b"/2017-03-31/tags/%zz", b"/2026-04-04/network-connectors/%00", b"/2025-09-09/microvm-images/" + b"a" * 30_000,
    b"/2025-09-09/" + b"a/" * 20_000, b"/%2e%2e/%2e%2e/etc/passwd", b"/" + b"x" * 70_000, b"/fuzz-bucket",
    b"/fuzz-bucket/", b"/fuzz-bucket/%ff", b"/fuzz-bucket//a/../b", b"/fuzz-bucket/" + b"k" * 1100, b"/A_b",
    b"/2025-09-09/microvms#f",
]
PIECES = [b"%", b"%zz", b"%ff", b"%00", b"/", b"..", b"%2f", b"\0", b"+", b";", b"\xc3\xbc", b"%25"]
ODD_QUERIES = [
    b"&&&", b"=", b"%", b"%zz=%zz", b"nextToken=%ff", b"nextToken=AAAA", b"nextToken=" + b"A" * 5000, b"maxResults=",
    b"maxResults=1&maxResults=2", b"maxResults=99999999999999999999", b"maxResults=-0", b"nameFilter=%00",
    b"tagKeys=&tagKeys=%ff", b"MaxItems=1e3", b"X-Amz-Signature=",
    b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=a&X-Amz-Expires=-1",
    b"X-Amz-Credential=%2f%2f%2flambda&X-Amz-Signature=%00",
    b"X-Amz-Expires=99999999999999999999&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=a", b"a" * 60_000,
    b"a=" + b"%41" * 10_000, b"\xff", b"a b",
]


@st.composite
def disturbed(draw, request: Request):
    """The request, at times with another method, path, query, header, framing or signature."""
    changes: dict[str, typing.Any] = {"cut": draw(st.integers(0, 3000))}
    kinds = ["method", "path", "query", "header", "framing", "signed", "service"]
    count = draw(st.sampled_from([0, 0, 0, 0, 1, 2]))
    for what in draw(st.lists(st.sampled_from(kinds), min_size=count, max_size=count)):
        match what:
            case "method":
                changes["method"] = draw(st.sampled_from(METHODS))
            case "path":
                at = draw(st.integers(0, len(request.path)))
                piece = draw(st.sampled_from(PIECES))
                inserted = request.path[:at] + piece + request.path[at:]
                changes["path"] = draw(st.sampled_from([inserted, *ODD_PATHS]))
            case "query":
                more = draw(st.sampled_from(ODD_QUERIES))
                changes["query"] = b"&".join(filter(None, [request.query, more]))
            case "header":
                more = draw(st.lists(st.sampled_from(ODD_HEADERS), min_size=1, max_size=2))
                changes["headers"] = (*request.headers, *more)
            case "framing":
                changes["framing"] = draw(st.sampled_from(FRAMINGS))
            case "signed":
                changes["signed"] = draw(st.sampled_from(["query", "query", "not", "odd", "odd"]))
            case "service":
                changes["service"] = draw(st.sampled_from(["lambda", "s3", "execute-api", *COMPANIONS]))
    return dataclasses.replace(request, **changes)

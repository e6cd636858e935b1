"""Requests that are almost right, and some that are nothing, as hypothesis strategies;
test_fuzz.py sends them."""
import functools
import json
import re
import urllib.parse

import botocore.session
from hypothesis import strategies as st

import model
from fuzz import COMPANIONS, IMAGES, Request, disturbed, dump, mutated, spoiled
from harness import ACCOUNT, REGION

CONNECTORS = ["fuzz-w", "fuzz-x", "fuzz-y", "fuzz-z"]
BUCKETS = ["fuzz-bucket", "fuzz-other"]
PREFIXES = (b"/2025-09-09/", b"/2026-04-04/", b"/2017-03-31/")
MAKERS = ["CreateMicrovmImage", "UpdateMicrovmImage", "CreateNetworkConnector", "UpdateNetworkConnector"]
PAGES = ("nextToken", "Marker")  # Any but a true one is refused, and hides the rest.


def quoted(text: str, safe: str = "") -> str:
    return urllib.parse.quote(text.encode(errors="surrogatepass"), safe=safe)


# The API.

def names(member: str) -> st.SearchStrategy | None:
    """Values of members that may name something that is there."""
    arns = [f"arn:aws:lambda:{REGION}:{ACCOUNT}:microvm-image:{name}" for name in IMAGES]
    connectors = [f"arn:aws:lambda:{REGION}:{ACCOUNT}:network-connector:{name}" for name in CONNECTORS]
    match member:
        case "clientToken" | "ClientToken":
            return st.one_of(st.uuids().map(str), st.uuids().map(str), st.just("again"))
        case "Configuration":
            subnets = st.lists(st.sampled_from(["subnet-1", "subnet-2", "subnet-3"]), min_size=1, unique=True)
            return subnets.map(lambda chosen: {"VpcEgressConfiguration": {
                "SubnetIds": chosen, "SecurityGroupIds": ["sg-1"], "NetworkProtocol": "IPv4",
                "AssociatedComputeResourceTypes": ["MicroVm"]}})
        case "name":
            return st.sampled_from(IMAGES)
        case "Name":
            return st.sampled_from(CONNECTORS)
        case "imageIdentifier":
            return st.sampled_from(arns)
        case "imageVersion":
            return st.sampled_from(["1.0", "2.0", "3.0"])
        case "Identifier":
            return st.sampled_from(CONNECTORS + connectors)
        case "Resource":
            return st.sampled_from(arns + connectors)
    return None


@st.composite
def values(draw, shape):
    """A valid input with a choice of the optional members."""
    found = model.good(shape)
    for name, member in shape.members.items():
        if (pool := names(name)) is not None and (name in found or draw(st.booleans())):
            found[name] = draw(pool)
        elif name not in found and name not in PAGES and draw(st.integers(0, 3)) == 0:
            found[name] = model.good(member, name)
    return found


@functools.cache
def served() -> list[str]:
    """Operations under the paths of the API; of those that are not, one."""
    paths = {name: operation.http["requestUri"].encode() for name, operation in model.operations().items()}
    return [name for name, path in paths.items() if path.startswith(PREFIXES)] + ["ListRuntimes"]


@st.composite
def api_requests(draw):
    """Operations of lambda-microvms and lambda-core with inputs that are nearly right."""
    # What makes things comes often, so that there are some.
    operation = model.operations()[draw(st.sampled_from(MAKERS * 3 + served()))]
    shape = operation.input_shape
    right = draw(values(shape)) if shape else {}
    given = draw(mutated(right))
    path, query, body = operation.http["requestUri"], [], {}
    for name, value in (given if isinstance(given, dict) else {}).items():
        place = shape.members[name].serialization if shape and name in shape.members else {}
        wire, text = place.get("name", name), value if isinstance(value, str) else json.dumps(value)
        match place.get("location"):
            case "uri":
                path = path.replace(f"{{{wire}}}", quoted(text, ""))
            case "querystring":
                query += [f"{quoted(wire)}={quoted(item if isinstance(item, str) else json.dumps(item))}"
                          for item in (value if isinstance(value, list) else [value])]
            case _:
                body[name] = value
    sent = dump(body) if body else b"" if isinstance(given, dict) else dump(given)
    # A label cannot be missing.
    path = re.sub(r"\{(.*?)\}", lambda label: quoted(right[label[1]]), path)
    request = Request(operation.http["method"].encode(), path.encode(), "&".join(query).encode(),
                      draw(spoiled(sent)), ((b"content-type", b"application/json"),))
    return draw(disturbed(request))


# The neighbours.

USUAL = {
    "DescribeLogGroups", "DescribeLogStreams", "GetLogEvents", "FilterLogEvents", "CreateLogGroup", "CreateLogStream",
    "PutLogEvents", "DeleteLogGroup", "PutRetentionPolicy", "GetCallerIdentity", "AssumeRole", "GetSessionToken",
    "CreateRole", "GetRole", "PutRolePolicy", "CreatePolicy", "AttachRolePolicy", "CreateUser", "ListRoles",
    "GetServiceQuota", "ListServiceQuotas",
}


@functools.cache
def companion(service: str) -> botocore.model.ServiceModel:
    return botocore.session.Session().get_service_model(service)


@st.composite
def companion_requests(draw):
    """Calls of the neighbours: JSON 1.1 and forms, by their models; S3 by paths and queries."""
    service = draw(st.sampled_from(["s3", "s3", *COMPANIONS]))
    if service == "s3":
        return draw(disturbed(draw(s3_requests())))
    described = companion(service)
    # Those that clients call come often. A live tail is an answer without an end.
    every = [name for name in described.operation_names if name != "StartLiveTail"]
    operation = described.operation_model(draw(st.sampled_from([name for name in every if name in USUAL] * 9 + every)))
    given = draw(mutated(model.good(operation.input_shape) if operation.input_shape else {}))
    if "json" in described.metadata["protocol"]:
        target = f"{described.metadata['targetPrefix']}.{operation.name}".encode()
        headers = ((b"content-type", b"application/x-amz-json-1.1"), (b"x-amz-target", target))
        body = draw(spoiled(dump(given)))
    else:
        form = {"Action": operation.name, "Version": described.metadata["apiVersion"]}
        form |= {name: value for name, value in given.items()} if isinstance(given, dict) else {}
        headers = ((b"content-type", b"application/x-www-form-urlencoded; charset=utf-8"),)
        text = "&".join(f"{quoted(name)}={quoted(value if isinstance(value, str) else json.dumps(value))}"
                        for name, value in form.items())
        body = draw(spoiled(text.encode()))
    return draw(disturbed(Request(b"POST", b"/", b"", body, headers, service)))


SUBRESOURCES = [
    b"", b"location", b"versioning", b"policy", b"acl", b"tagging", b"uploads", b"uploadId=x",
    b"uploadId=x&partNumber=0", b"delete", b"list-type=2", b"list-type=2&max-keys=-1",
    b"list-type=2&continuation-token=%ff", b"max-keys=99999999999", b"versions", b"encryption", b"publicAccessBlock",
    b"lifecycle", b"cors", b"partNumber=1&uploadId=..%2f..%2f", b"prefix=%00&delimiter=%ff", b"encoding-type=url",
    b"versionId=null", b"attributes", b"select&select-type=2", b"notification", b"response-content-type=%0d%0a",
    b"x-id=GetObject",
]
XML = [
    b"", b"<Delete><Object><Key>k</Key></Object></Delete>", b"<Delete>", b"<a>" * 20_000, b"\xff<Delete/>",
    b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><Delete><Object><Key>&c;</Key></Object></Delete>',
    b"<CompleteMultipartUpload><Part><PartNumber>0</PartNumber><ETag/></Part></CompleteMultipartUpload>",
    b"<Tagging><TagSet><Tag><Key/><Value/></Tag></TagSet></Tagging>", b"<CreateBucketConfiguration/>", b"x" * 100_000,
]


@st.composite
def s3_requests(draw):
    bucket = draw(st.sampled_from(["", *BUCKETS, "no-such-bucket", "..", "UPPER", "a"]))
    key = draw(st.sampled_from(["", "/", "/k", "/k/l", "/..", "/%00", "/%ff", "/" + "k" * 1025, "/%F0%9F%98%80"]))
    method = draw(st.sampled_from([b"GET", b"HEAD", b"PUT", b"POST", b"DELETE"]))
    query, body = draw(st.sampled_from(SUBRESOURCES)), draw(st.one_of(st.sampled_from(XML), st.binary(max_size=50)))
    return Request(method, f"/{bucket}{key}".encode(), query, body, (), "s3")


# No HTTP.

LINES = [
    b"GET / HTTP/1.1", b"GET  / HTTP/1.1", b"GET /", b"G\0T / HTTP/1.1", b"GET / HTTP/1.1\r\nhost: a\r\nhost: b",
    b"HTTP/1.1 200 OK", b"GET / HTTP/2.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n", b"CONNECT a:1 HTTP/1.1",
    b"GET http://a:b:c/ HTTP/1.1", b"\x16\x03\x01\x02\x00\x01", b"POST / HTTP/1.1\r\ntransfer-encoding: chunked",
    b"POST / HTTP/1.1\r\ncontent-length: 5", b"x: " + b"y" * (1 << 20), b"x: y\r\n" * 300,
    b"content-length: 18446744073709551616", b"content-length: +1", b" folded: yes", b"", b"", b"ffffffffffffffff",
    b"0", b"-1",
]
ENDS = [b"\r\n", b"\n", b"\r", b"", b"\0"]


@st.composite
def wild_bytes(draw):
    """What may be no HTTP at all."""
    line = st.one_of(st.sampled_from(LINES), st.binary(max_size=30))
    lines = draw(st.lists(st.tuples(line, st.sampled_from(ENDS)), max_size=8))
    return b"".join(line + end for line, end in lines)

"""Who may connect to the API, and who a request is taken to come from behind a proxy."""
import contextlib
import http.client
import json
import socket
import time
import urllib.parse

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import footprint
from endpoint import Clients
from harness import REGION, wait_until

SETTINGS = {"connections": 16, "connections_per_source": 12, "trusted_proxies": ["127.0.0.2"]}
PATH = "/2025-09-09/microvms"


@pytest.fixture
def own_server(another_server):
    return another_server(footprint.SETTINGS | {"api": SETTINGS})


def connect(server, source: str) -> socket.socket:
    address = urllib.parse.urlsplit(server.api_url)
    return socket.create_connection((address.hostname, address.port), 10, source_address=(source, 0))


def ask(client: socket.socket, server, headers: dict[str, str] | None = None) -> int:
    """The status of ListMicrovms, over this connection."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.api_url).netloc)
    connection.sock = client
    connection.request("GET", PATH, headers=headers or {})
    response = connection.getresponse()
    response.read()
    return response.status


def is_closed(client: socket.socket) -> bool:
    client.settimeout(0.2)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_silent_clients_keep_nobody_out(own_server):
    with contextlib.ExitStack() as stack:
        def silent(source):
            return stack.enter_context(contextlib.closing(connect(own_server, source)))
        first = [silent("127.0.3.1") for _ in range(12)]
        assert is_closed(silent("127.0.3.1")), "one source has its share"
        silent_others = [silent("127.0.3.2") for _ in range(4)]
        time.sleep(2)
        # All places are taken; the oldest that asks for nothing gives way.
        with contextlib.closing(connect(own_server, "127.0.3.3")) as client:
            assert ask(client, own_server) == 403
        assert is_closed(first[0]) and not is_closed(silent_others[-1])


def test_a_head_without_end_is_refused(own_server):
    with contextlib.closing(connect(own_server, "127.0.3.1")) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"x" * 70_000)
        assert client.recv(100).startswith(b"HTTP/1.1 431 ")


def test_the_client_s_address_is_what_a_trusted_proxy_tells(own_server):
    iam = Clients(own_server).boto("iam")
    iam.create_user(UserName="one")
    condition = {"IpAddress": {"aws:SourceIp": "203.0.113.9/32"}, "Bool": {"aws:SecureTransport": "true"}}
    statement = {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="one", PolicyName="p", PolicyDocument=document)
    key = iam.create_access_key(UserName="one")["AccessKey"]

    keys = Credentials(key["AccessKeyId"], key["SecretAccessKey"])

    def status(source: str, *told: str, protocol: str = "https") -> int:
        request = AWSRequest("GET", own_server.api_url + PATH)
        botocore.auth.SigV4Auth(keys, "lambda", REGION).add_auth(request)
        headers = dict(request.headers) | {"X-Forwarded-For": ", ".join(told), "X-Forwarded-Proto": protocol}
        with contextlib.closing(connect(own_server, source)) as client:
            return ask(client, own_server, headers)

    assert status("127.0.0.2", "127.0.0.1", "203.0.113.9") == 200
    assert status("127.0.0.2", "203.0.113.9", protocol="http") == 403
    assert status("127.0.0.2", "203.0.113.9", "192.0.2.1") == 403
    assert status("127.0.0.1", "203.0.113.9") == 403


def test_a_proxy_s_connections_are_those_of_many(own_server):
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(contextlib.closing(connect(own_server, "127.0.0.2"))) for _ in range(15)]
        wait_until(lambda: ask(many[-1], own_server) == 403, 5, "the last of them is served")
        assert not any(map(is_closed, many[:-1]))

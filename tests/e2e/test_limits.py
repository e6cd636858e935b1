"""What one microVM may take of the endpoints. The session's image has 512 MiB, so a
vCPU at peak."""
import contextlib
import time

import pytest

import footprint
from endpoint import Clients
from harness import wait_until

LIMITS = {"limits": "aws", "connections_per_vcpu": 4, "requests_per_second_per_vcpu": 20, "bytes_per_second_per_vcpu": 1_000_000}


@pytest.fixture
def limited(another_server):
    return Clients(another_server(footprint.SETTINGS | {"endpoint": LIMITS}))


def ask(microvm, connection):
    connection.request("GET", "/count", headers=microvm.headers())
    response = connection.getresponse()
    response.read()
    return response


def test_a_microvm_s_share_of_the_endpoints(limited, image):
    microvm, neighbour = limited.run(image), limited.run(image)

    # Requests per second.
    with contextlib.closing(microvm.connection()) as connection:
        began, answered = time.monotonic(), 0
        while (response := ask(microvm, connection)).status == 200:
            answered += 1
            assert answered < 5000, "no limit"
        assert 20 <= answered <= 21 + 20 * (time.monotonic() - began)
        assert (response.status, response.headers["retry-after"]) == (429, "1")
        assert response.headers["x-aws-proxy-error"] == "TOO_MANY_REQUESTS"
        assert neighbour.request("/count").status == 200
        wait_until(lambda: ask(microvm, connection).status == 200, 5, "there is room again")

    # Connections.
    with contextlib.ExitStack() as stack:
        open_ones = [stack.enter_context(contextlib.closing(microvm.connection())) for _ in range(4)]
        for connection in open_ones:
            wait_until(lambda: ask(microvm, connection).status == 200, 10, "each of the four is served", pause=0.3)
        assert microvm.request("/count").status == 429
        assert neighbour.request("/count").status == 200
    wait_until(lambda: microvm.request("/count").status == 200, 10, "closed connections count no more", pause=0.3)

    # Bytes: a megabyte a second, of which a second's worth is free.
    began = time.monotonic()
    assert len(microvm.sh("head -c 4000000 /dev/zero")) == 4_000_000
    assert time.monotonic() - began > 2

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


def four_served(microvm, stack: contextlib.ExitStack) -> list:
    """As many connections as it may have, open until the stack's end."""
    connections = [stack.enter_context(contextlib.closing(microvm.connection())) for _ in range(4)]
    for connection in connections:
        wait_until(lambda: ask(microvm, connection).status == 200, 10, "each of the four is served", pause=0.3)
    return connections


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

    # Connections. A refusal for the number of requests would be one of those on an open connection,
    # too.
    with contextlib.ExitStack() as stack:
        connection, *_ = four_served(microvm, stack)
        fifth_and_first = lambda: (microvm.request("/count").status, ask(microvm, connection).status)
        wait_until(lambda: fifth_and_first() == (429, 200), 10, "a fifth is refused", pause=0.3)
        assert neighbour.request("/count").status == 200

    # Those that were closed count no more, as soon as the server has noticed.
    with contextlib.ExitStack() as stack:
        connection, *_ = four_served(microvm, stack)

        # Bytes: a megabyte a second, of which a second's worth is free.
        def four_megabytes() -> float:
            """How long they took; 0 if there were too many requests just before."""
            began = time.monotonic()
            connection.request("POST", "/", body=b"head -c 4000000 /dev/zero", headers=microvm.headers(8081))
            answer = connection.getresponse()
            length = len(answer.read().rstrip(b"\n"))
            assert answer.status == 429 or (answer.status, length) == (200, 4_000_000)
            return time.monotonic() - began if answer.status == 200 else 0
        assert wait_until(four_megabytes, 10, "the request is served", pause=0.3) > 2

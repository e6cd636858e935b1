"""The idle policy, with times that the configuration lowers from the service's minimum of 60 s."""
import concurrent.futures
import contextlib
import socket
import ssl
import time

import h2.connection
import h2.events
import pytest

from harness import processes


def test_an_idle_microvm_is_suspended_and_woken_by_a_request(run):
    microvm = run(idle=1)
    assert microvm.count() == 1
    for count in (2, 3):
        microvm.wait_state("SUSPENDED")
        assert microvm.vmm() is None
        assert microvm.count() == count


def test_bytes_keep_it_awake(run):
    microvm = run(idle=1)
    with contextlib.closing(microvm.connection()) as connection:
        connection.request("GET", "/stream?n=30&ms=100", headers=microvm.headers())
        answer = connection.getresponse()
        vmm = microvm.vmm()
        assert len(answer.read().splitlines()) == 30
        assert microvm.vmm() == vmm is not None
    microvm.wait_state("SUSPENDED")


def test_a_client_s_pings_keep_it_awake(run):
    """Over HTTP/2, after a request with a good token; without one they would count for nobody."""
    microvm = run(idle=2)
    bundle = ssl.create_default_context(cafile=microvm.clients.env["HEARTH_CA_BUNDLE"])
    bundle.set_alpn_protocols(["h2"])
    name = microvm.endpoint.split(":")[0]
    plain = socket.create_connection(("127.0.0.1", microvm.clients.server.endpoint_port), timeout=60)
    with plain, bundle.wrap_socket(plain, server_hostname=name) as sock:
        connection = h2.connection.H2Connection()
        connection.initiate_connection()
        token = microvm.headers()["X-aws-proxy-auth"]
        connection.send_headers(1, [(":method", "GET"), (":scheme", "https"), (":path", "/count"),
                                    (":authority", microvm.endpoint), ("x-aws-proxy-auth", token)], end_stream=True)

        def talk(until: type) -> None:
            while True:
                sock.sendall(connection.data_to_send())
                if any(isinstance(event, until) for event in connection.receive_data(sock.recv(65536))):
                    return
        talk(h2.events.StreamEnded)
        vmm, began = microvm.vmm(), time.monotonic()
        while time.monotonic() < began + 6:
            connection.ping(b"are you?")
            talk(h2.events.PingAckReceived)
            time.sleep(0.2)
        assert microvm.vmm() == vmm is not None
        microvm.wait_state("SUSPENDED")


def test_one_that_slept_too_long_is_terminated(run):
    microvm = run(idle=1, suspended=2)
    microvm.wait_state("SUSPENDED")
    microvm.wait_state("TERMINATED")
    assert microvm.get()["stateReason"] == "MicroVM exceeded maximum lifetime."


def test_without_a_suspended_time_idle_means_the_end(run):
    microvm = run(idle=1, suspended=0)
    microvm.wait_state("TERMINATED")
    assert "suspendedAt" not in microvm.get()


def test_the_maximum_duration_ends_it(run):
    microvm = run(maximumDurationInSeconds=3)
    microvm.wait_state("TERMINATED")
    assert microvm.get()["stateReason"] == "MicroVM exceeded maximum lifetime."


def test_without_auto_resume_a_request_does_not_wake_it(clients, run):
    microvm = run(auto_resume=False)
    assert microvm.count() == 1
    microvm.suspend()
    answer = microvm.request("/count")
    assert (answer.status, answer.body) == (502, b"")
    assert microvm.state == "SUSPENDED"
    clients.microvms.resume_microvm(microvmIdentifier=microvm.id)
    microvm.wait_state("RUNNING")
    assert microvm.count() == 2


def test_a_request_while_pending_is_held_and_answered(run):
    microvm = run(wait=False)
    assert microvm.count() == 1


@pytest.mark.parametrize("round_number", [1, 2])
def test_parallel_requests_wake_it_once(run, round_number):
    microvm = run()
    microvm.count()
    microvm.suspend()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: microvm.count(), range(8)))
    # A second resume would have begun from the same memory and counted the same numbers again.
    assert sorted(counts) == list(range(2, 10))
    assert len(processes(microvm.id)) == 1


def test_a_request_during_the_suspend_is_answered(clients, run):
    microvm = run()
    microvm.request("/touch?mib=64")
    microvm.count()
    clients.microvms.suspend_microvm(microvmIdentifier=microvm.id)
    assert microvm.count() == 2

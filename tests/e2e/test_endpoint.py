"""HTTPS endpoints: routing to ports, streaming both ways, and what the app sees of it."""
import contextlib
import io
import os
import socket
import ssl
import time

from endpoint import MIB


def test_tls_is_verified_against_the_ca(shared):
    connection = shared.connection()
    connection.context = ssl.create_default_context()
    try:
        connection.request("GET", "/")
        raise AssertionError("the endpoint's certificate is trusted without its CA")
    except ssl.SSLCertVerificationError:
        pass
    with contextlib.closing(shared.connection()) as verified:
        verified.request("GET", "/", headers=shared.headers())
        assert verified.getresponse().status == 200
        names = dict(verified.sock.getpeercert()["subjectAltName"])
        assert names["DNS"] == "*." + shared.endpoint.split(":")[0].split(".", 1)[1]


def test_the_endpoint_is_also_on_ipv6_loopback(server):
    if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6"):
        socket.create_connection(("::1", server.endpoint_port), timeout=5).close()


def test_ports(shared):
    assert shared.request("/").text == shared.request("/", port=8080).text
    # The probe listens on loopback only, and sees a peer on loopback.
    assert shared.sh('echo "$PEER"') == "127.0.0.1"
    assert shared.request("/", port=8082).status == 502
    assert shared.request("/", headers=shared.headers() | {"X-aws-proxy-port": "banana"}).status == 400


def test_the_app_sees_no_proxy_headers(shared):
    sent = shared.headers(port=8080) | {"X-Own": "kept"}
    seen = shared.request("/headers", headers=sent).text.lower()
    assert "x-own: kept" in seen
    assert f"host: {shared.endpoint}" in seen
    assert "x-amzn-requestid: " in seen
    assert "x-aws-proxy" not in seen and "x-forwarded" not in seen


def test_a_response_arrives_piece_by_piece(shared):
    with contextlib.closing(shared.connection()) as connection:
        connection.request("GET", "/stream?n=5&ms=200", headers=shared.headers())
        answer = connection.getresponse()
        began, arrivals = time.monotonic(), []
        while line := answer.readline():
            arrivals.append((line, time.monotonic() - began))
    assert [line for line, _ in arrivals] == [b"5\n", b"4\n", b"3\n", b"2\n", b"1\n"]
    # Four pauses of 200 ms lie between the first and the last line.
    assert arrivals[-1][1] - arrivals[0][1] > 0.6, arrivals


def test_a_large_body_passes_both_ways(shared):
    body = os.urandom(8 * MIB)
    assert shared.request("/echo", "POST", body).body == body
    # Chunked, without a length.
    assert shared.request("/echo", "POST", io.BytesIO(body[:MIB])).body == body[:MIB]


def test_a_request_body_is_streamed(shared):
    with contextlib.closing(shared.connection()) as connection:
        connection.putrequest("POST", "/", skip_host=True)
        command = b'echo got it; sleep 0; echo done'
        for name, value in (shared.headers(8081) | {"Content-Length": str(len(command))}).items():
            connection.putheader(name, value)
        connection.endheaders()
        connection.send(command[:10])
        # The app has the head and half of the body by now: its process for this request waits.
        assert "probe.pl" in shared.sh("cat /proc/*/cmdline | tr '\\0' ' '")
        connection.send(command[10:])
        assert connection.getresponse().read() == b"got it\ndone\n"


def test_a_connection_is_kept_for_several_requests(shared):
    with contextlib.closing(shared.connection()) as connection:
        counts = []
        for _ in range(3):
            connection.request("GET", "/count", headers=shared.headers())
            counts.append(int(connection.getresponse().read()))
            first = connection.sock
        assert connection.sock is first is not None
        assert counts == list(range(counts[0], counts[0] + 3))

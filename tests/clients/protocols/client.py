"""usage: client.py HOST PORT CA_BUNDLE TOKEN

Drives the app of this directory through an endpoint with Python's clients. Prints one JSON object a
line: protocol, client, and what went wrong (null if nothing did).
"""
import asyncio
import json
import socket
import ssl
import sys
import traceback

import grpc
import h2.config
import h2.connection
import h2.events
import h2.settings
import httpx
import requests
import websockets
import websockets.frames
from websockets.asyncio.client import connect

HOST, PORT, CA, TOKEN = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
MIB = 1 << 20
AUTH = {"X-aws-proxy-auth": TOKEN}
URL = f"https://{HOST}:{PORT}"
# All endpoints are on loopback; nobody needs to resolve their names.
_resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **more: _resolve("127.0.0.1" if host == HOST else host, *rest, **more)
CHECKS = []


def check(protocol, client):
    return lambda function: CHECKS.append((protocol, client, function)) or function


def described(answer, version):
    assert answer.status_code == 200 and answer.headers["x-amzn-requestid"]
    assert answer.text == f"GET /describe {version} {HOST}:{PORT}", answer.text


def events(lines):
    data = [line for line in lines if line.startswith("data:")]
    assert data == [f"data: event {number}" for number in range(5)], data


@check("HTTP/1.1", "requests")
def requests_plain():
    described(requests.get(f"{URL}/describe", headers=AUTH, verify=CA), "HTTP/1.1")


@check("Bodies over HTTP/1.1", "requests")
def requests_bodies():
    with requests.Session() as session:
        # Or the environment's CA bundle would count.
        session.headers, session.verify, session.trust_env = AUTH, CA, False
        assert session.post(f"{URL}/count", data=bytes(16 * MIB)).text == str(16 * MIB)
        chunks = (bytes(MIB) for _ in range(16))
        assert session.post(f"{URL}/count", data=chunks).text == str(16 * MIB)
        assert session.get(f"{URL}/bytes?{16 * MIB}").content == b"\7" * (16 * MIB)


@check("An early answer over HTTP/1.1", "requests")
def requests_early():
    assert requests.post(f"{URL}/early", data=bytes(64 * 1024), headers=AUTH, verify=CA).status_code == 413


@check("Server-Sent Events over HTTP/1.1", "requests")
def requests_events():
    with requests.get(f"{URL}/events", headers=AUTH, verify=CA, stream=True) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        events(answer.iter_lines(decode_unicode=True))


def httpx_client(http2):
    context = ssl.create_default_context(cafile=CA)
    return httpx.Client(http1=not http2, http2=http2, verify=context, headers=AUTH, base_url=URL, timeout=60)


@check("HTTP/1.1", "httpx")
def httpx_http1():
    with httpx_client(False) as client:
        described(client.get("/describe"), "HTTP/1.1")


@check("HTTP/2", "httpx")
def httpx_http2():
    with httpx_client(True) as client:
        answer = client.get("/describe")
        assert answer.http_version == "HTTP/2"
        described(answer, "HTTP/1.1")


@check("HTTP/2 to the app", "httpx")
def httpx_forced():
    with httpx_client(True) as client:
        described(client.get("/describe", headers={"X-aws-proxy-force-h2": "true"}), "HTTP/2.0")
        refused = client.get("/describe", headers={"X-aws-proxy-force-h2": "true", "X-aws-proxy-port": "8082"})
        assert (refused.status_code, refused.headers["x-aws-proxy-error"]) == (502, "APP_CONNECT_FAILED")


@check("TLS to the app", "httpx")
def httpx_tls():
    secured, http1_only = {"X-aws-proxy-port": "8443"}, {"X-aws-proxy-port": "8444"}
    with httpx_client(True) as client:
        for _ in range(2):
            described(client.get("/describe", headers=secured), "HTTP/2.0")
            described(client.get("/describe", headers=http1_only), "HTTP/1.1")
        for port in (secured, http1_only):
            assert client.post("/echo", content=b"x" * MIB, headers=port).content == b"x" * MIB
    with httpx_client(False) as client:
        described(client.get("/describe", headers=secured), "HTTP/2.0")


@check("Bodies over HTTP/2", "httpx")
def httpx_bodies():
    with httpx_client(True) as client:
        assert client.post("/count", content=bytes(16 * MIB)).text == str(16 * MIB)
        assert client.get(f"/bytes?{16 * MIB}").content == b"\7" * (16 * MIB)
        assert client.post("/echo", content=b"x" * MIB).content == b"x" * MIB


@check("An early answer over HTTP/2", "httpx")
def httpx_early():
    with httpx_client(True) as client:
        assert client.post("/early", content=bytes(64 * 1024)).status_code == 413


@check("Server-Sent Events over HTTP/2", "httpx")
def httpx_events():
    with httpx_client(True) as client, client.stream("GET", "/events") as answer:
        events(answer.iter_lines())


async def frames(socket):
    """Fragments, sizes of each length form, pings, text that is cut in the middle of a
    character, close codes."""
    for message in ["", "ä€𝄞", "x" * 125, "x" * 126, "x" * 65535, "x" * 65536, bytes(range(256)) * 8192]:
        await socket.send(message)
        assert await socket.recv() == message, len(message)
    await socket.send(["one ", "two ", "three"])
    assert await socket.recv() == "one two three"
    text = "ä€𝄞" * 1000
    for cut in (1, 2, 3, 4, 5):
        encoded = text.encode()
        pieces = [encoded[:cut], encoded[cut:]]
        await socket.send(pieces, text=True)
        assert await socket.recv() == text
    pong = await socket.ping(b"p" * 125)
    await pong
    await socket.close(4001, "of one's own")
    assert (socket.close_code, socket.close_reason) == (4001, "of one's own")


def websocket(chosen, **arguments):
    async def run():
        context = ssl.create_default_context(cafile=CA)
        url = f"wss://{HOST}:{PORT}/ws"
        async with connect(url, ssl=context, max_size=None, proxy=None, **arguments) as socket:
            assert socket.subprotocol == chosen, socket.subprotocol
            await frames(socket)
    asyncio.run(run())


@check("WebSocket, token in a header", "websockets")
def websockets_header():
    websocket(None, additional_headers=AUTH)
    websocket("chat", additional_headers=AUTH, subprotocols=["other", "chat"])


@check("WebSocket, token in a subprotocol", "websockets")
def websockets_subprotocol():
    ours = ["lambda-microvms", f"lambda-microvms.authentication.{TOKEN}", "lambda-microvms.port.8080"]
    websocket("lambda-microvms", subprotocols=ours)
    websocket("chat", subprotocols=[*ours, "chat"])
    for wrong in (ours[1:], ours[:1], [*ours[:2], "lambda-microvms.port.0"]):
        try:
            websocket(None, subprotocols=wrong)
            raise RuntimeError(f"{len(wrong)} subprotocols were accepted")
        except websockets.exceptions.InvalidStatus as refused:
            assert refused.response.status_code in (400, 403)


@check("TLS to the app", "websockets")
def websockets_tls():
    for port in ("8443", "8444"):
        websocket("chat", additional_headers=AUTH | {"X-aws-proxy-port": port}, subprotocols=["chat"])


@check("WebSocket over HTTP/2", "h2")
def websocket_over_http2():
    context = ssl.create_default_context(cafile=CA)
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((HOST, PORT), timeout=30) as plain:
        with context.wrap_socket(plain, server_hostname=HOST) as stream:
            extended_connect(stream)


def extended_connect(stream):
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    stream.sendall(connection.data_to_send())
    received, state = bytearray(), {}

    def pump(until):
        while not until():
            data = stream.recv(65536)
            assert data, "the connection ended"
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RemoteSettingsChanged):
                    state["settings"] = True
                elif isinstance(event, h2.events.ResponseReceived):
                    state["head"] = dict(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    received.extend(event.data)
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, (h2.events.StreamReset, h2.events.StreamEnded)):
                    state["ended"] = True
            stream.sendall(connection.data_to_send())
    pump(lambda: "settings" in state)
    assert connection.remote_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL) == 1
    offered = f"lambda-microvms, lambda-microvms.authentication.{TOKEN}, chat"
    connection.send_headers(1, [
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/ws"),
        (":authority", f"{HOST}:{PORT}"), ("sec-websocket-version", "13"), ("sec-websocket-protocol", offered)])
    stream.sendall(connection.data_to_send())
    pump(lambda: "head" in state)
    head = state["head"]
    assert (head[":status"], head["sec-websocket-protocol"]) == ("200", "chat"), head
    sent = websockets.frames.Frame(websockets.frames.Opcode.TEXT, b"over a stream").serialize(mask=True)
    connection.send_data(1, sent)
    stream.sendall(connection.data_to_send())
    expected = websockets.frames.Frame(websockets.frames.Opcode.TEXT, b"over a stream").serialize(mask=False)
    pump(lambda: len(received) >= len(expected))
    assert received == expected
    del received[:]
    connection.send_data(1, websockets.frames.Frame(websockets.frames.Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
    stream.sendall(connection.data_to_send())
    pump(lambda: "ended" in state)


def channel():
    with open(CA, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    # The name that is checked and sent; the address is loopback.
    options = [("grpc.ssl_target_name_override", HOST), ("grpc.default_authority", f"{HOST}:{PORT}"),
               ("grpc.enable_http_proxy", 0)]
    return grpc.secure_channel(f"ipv4:127.0.0.1:{PORT}", credentials, options)


METADATA = [("x-aws-proxy-auth", TOKEN)]


@check("gRPC: unary", "grpcio")
def grpc_unary():
    with channel() as open_channel:
        call = open_channel.unary_unary("/test.Echo/Unary")
        for message in (b"", b"hello", b"x" * (3 * MIB)):
            assert call(message, metadata=METADATA, timeout=30) == message
        forced = [*METADATA, ("x-aws-proxy-force-h2", "true")]
        assert call(b"forced", metadata=forced, timeout=30) == b"forced"


@check("TLS to the app", "grpcio")
def grpc_tls():
    # The first request to a port may get the answer that TLS is wanted; a call
    # cannot be made twice.
    requests.get(f"{URL}/describe", headers=AUTH | {"X-aws-proxy-port": "8443"}, verify=CA)
    with channel() as open_channel:
        call = open_channel.unary_unary("/test.Echo/Unary")
        assert call(b"hello", metadata=[*METADATA, ("x-aws-proxy-port", "8443")], timeout=30) == b"hello"


@check("gRPC: streams", "grpcio")
def grpc_streams():
    with channel() as open_channel:
        up = open_channel.stream_unary("/test.Echo/ClientStream")
        assert up(iter([b"a", b"b", b"c"]), metadata=METADATA, timeout=30) == b"abc"
        down = open_channel.unary_stream("/test.Echo/ServerStream")
        numbers = list(down(b"100", metadata=METADATA, timeout=30))
        assert numbers == [str(number).encode() for number in range(100)]
        both = open_channel.stream_stream("/test.Echo/Both")
        sent = []

        def messages():
            for number in range(20):
                sent.append(number)
                yield str(number).encode()
        for number, answer in enumerate(both(messages(), metadata=METADATA, timeout=30)):
            assert int(answer) == number


@check("gRPC: deadline and status", "grpcio")
def grpc_deadline():
    with channel() as open_channel:
        for method, timeout, expected in [("Slow", 1, grpc.StatusCode.DEADLINE_EXCEEDED),
                                          ("None", 30, grpc.StatusCode.UNIMPLEMENTED)]:
            try:
                open_channel.unary_unary(f"/test.Echo/{method}")(b"", metadata=METADATA, timeout=timeout)
                raise RuntimeError(f"{method} succeeded")
            except grpc.RpcError as error:
                assert error.code() == expected, error
        call = open_channel.unary_unary("/test.Echo/Unary").with_call(b"", metadata=METADATA, timeout=30)
        timeout = dict(call[1].initial_metadata())["x-timeout"]
        assert 0 < int(timeout[:-1]), timeout


for protocol, client, function in CHECKS:
    try:
        function()
        error = None
    except Exception:  # Whatever it is, it is told.
        error = traceback.format_exc()
    print(json.dumps({"protocol": protocol, "client": client, "error": error}), flush=True)

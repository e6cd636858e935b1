"""usage: hold.py KIND HOST PORT CA_BUNDLE TOKEN

Opens one stream through an endpoint, on which the app says nothing after the beginning. Prints
`open`, and when the stream has ended, `ended`.
"""
import asyncio
import contextlib
import socket
import ssl
import sys

import grpc
import httpx
import websockets
from websockets.asyncio.client import connect

KIND, HOST, PORT, CA, TOKEN = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]
AUTH = {"X-aws-proxy-auth": TOKEN}
_resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **more: _resolve("127.0.0.1" if host == HOST else host, *rest, **more)


def tell(what):
    print(what, flush=True)


def hold_http(http2):
    context = ssl.create_default_context(cafile=CA)
    with httpx.Client(http1=not http2, http2=http2, verify=context, headers=AUTH, timeout=None) as client:
        with client.stream("GET", f"https://{HOST}:{PORT}/silent") as answer:
            assert answer.status_code == 200
            pieces = answer.iter_bytes()
            assert next(pieces) == b"x"
            tell("open")
            with contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError):
                next(pieces)
                raise AssertionError("the stream went on")


async def hold_websocket(ping_seconds):
    context = ssl.create_default_context(cafile=CA)
    url = f"wss://{HOST}:{PORT}/ws"
    async with connect(url, ssl=context, proxy=None, additional_headers=AUTH, ping_interval=ping_seconds) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
        tell("open")
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            await socket.recv()
            raise AssertionError("the stream went on")


def hold_grpc():
    with open(CA, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options = [("grpc.ssl_target_name_override", HOST), ("grpc.default_authority", f"{HOST}:{PORT}"),
               ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(f"ipv4:127.0.0.1:{PORT}", credentials, options) as channel:
        call = channel.unary_stream("/test.Echo/Slow")(b"", metadata=[("x-aws-proxy-auth", TOKEN)])
        call.initial_metadata()
        tell("open")
        with contextlib.suppress(grpc.RpcError):
            next(call)
            raise AssertionError("the stream went on")


match KIND:
    case "http1" | "http2":
        hold_http(KIND == "http2")
    case "websocket":
        asyncio.run(hold_websocket(None))
    case "websocket-pings":
        asyncio.run(hold_websocket(0.4))
    case "grpc":
        hold_grpc()
tell("ended")

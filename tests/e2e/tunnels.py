"""Connections that have become WebSockets, as streams of raw bytes: to an app itself, and through
an endpoint over HTTP/1.1 and HTTP/2."""
import asyncio
import base64
import contextlib
import dataclasses
import ssl

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

from endpoint import Microvm

# Key and answer of RFC 6455, section 1.3.
KEY, ACCEPT = base64.b64encode(b"the sample nonce").decode(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
PIECE = 65536


@dataclasses.dataclass(frozen=True)
class Handshake:
    """What a client asks for beside the WebSocket itself."""
    path: str
    headers: tuple[tuple[str, str], ...] = ()


class Http1:
    """A connection after its 101."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]):
        self.reader, self.writer, self.headers = reader, writer, headers

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self) -> bytes:
        """What has arrived; empty at an end that the other side has announced."""
        return await self.reader.read(PIECE)

    async def close(self) -> None:
        self.writer.close()
        # The other side may have gone.
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class Http2:
    """A stream of an extended CONNECT (RFC 8441) after its 200, on a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader, self.writer = reader, writer
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.headers: dict[str, str] | None = None
        self.settled, self.ended, self.room = False, False, asyncio.Event()
        self.received = bytearray()

    async def start(self, authority: str, handshake: Handshake) -> None:
        self.connection.initiate_connection()
        await self._flush()
        while not self.settled:
            await self._pump()
        assert self.connection.remote_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL) == 1
        self.connection.send_headers(1, [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", handshake.path),
            (":authority", authority), ("sec-websocket-version", "13"), *handshake.headers])
        await self._flush()
        while self.headers is None:
            await self._pump()

    async def _flush(self) -> None:
        self.writer.write(self.connection.data_to_send())
        await self.writer.drain()

    async def _pump(self) -> None:
        data = await self.reader.read(PIECE)
        assert data, "the connection ended"
        for event in self.connection.receive_data(data):
            match event:
                case h2.events.RemoteSettingsChanged():
                    self.settled = True
                case h2.events.ResponseReceived():
                    self.headers = dict(event.headers)
                case h2.events.DataReceived():
                    self.received += event.data
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded():
                    self.ended = True
                case h2.events.StreamReset():
                    raise ConnectionResetError(f"the stream was reset: {event.error_code}")
        # Settings and windows may have changed.
        self.room.set()
        await self._flush()

    async def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self.room.clear()
            size = min(self.connection.local_flow_control_window(1), self.connection.max_outbound_frame_size, len(rest))
            if size == 0:
                await self.room.wait()
                continue
            self.connection.send_data(1, bytes(rest[:size]))
            rest = rest[size:]
            await self._flush()

    async def receive(self) -> bytes:
        """What has arrived; empty at an end that the other side has announced."""
        while not self.received and not self.ended:
            await self._pump()
        data = bytes(self.received)
        self.received.clear()
        return data

    async def reset(self) -> None:
        """Ends the stream without a word, and not the connection."""
        self.connection.reset_stream(1, h2.errors.ErrorCodes.CANCEL)
        await self._flush()

    async def close(self) -> None:
        self.writer.close()
        # The other side may have gone.
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


async def _upgrade(reader, writer, host: str, handshake: Handshake) -> Http1:
    lines = [f"GET {handshake.path} HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket",
             "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}", *map(": ".join, handshake.headers)]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *fields = head.rstrip().split("\r\n")
    assert first.startswith("HTTP/1.1 101 "), head
    headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
    assert headers["sec-websocket-accept"] == ACCEPT
    return Http1(reader, writer, headers)


async def direct(port: int, handshake: Handshake) -> Http1:
    """To an app on loopback."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    return await _upgrade(reader, writer, f"localhost:{port}", handshake)


async def _tls(microvm: Microvm, protocol: str):
    context = ssl.create_default_context(cafile=microvm.clients.env["HEARTH_CA_BUNDLE"])
    context.set_alpn_protocols([protocol])
    name = microvm.endpoint.split(":")[0]
    return await asyncio.open_connection("127.0.0.1", microvm.clients.server.endpoint_port, ssl=context,
                                         server_hostname=name)


async def http1(microvm: Microvm, token: str, handshake: Handshake) -> Http1:
    """Through the endpoint over HTTP/1.1."""
    reader, writer = await _tls(microvm, "http/1.1")
    headers = (*handshake.headers, ("X-aws-proxy-auth", token))
    return await _upgrade(reader, writer, microvm.endpoint, dataclasses.replace(handshake, headers=headers))


async def http2(microvm: Microvm, token: str, handshake: Handshake) -> Http2:
    """Through the endpoint over HTTP/2."""
    tunnel = Http2(*await _tls(microvm, "h2"))
    headers = (*handshake.headers, ("x-aws-proxy-auth", token))
    await tunnel.start(microvm.endpoint, dataclasses.replace(handshake, headers=headers))
    assert tunnel.headers[":status"] == "200", tunnel.headers
    return tunnel

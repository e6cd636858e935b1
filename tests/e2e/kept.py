"""Clients that keep their connection to an endpoint and send one POST after the other on it."""
import socket
import ssl

import h2.config
import h2.connection
import h2.events

from endpoint import Microvm

RECORD = 8081


class KeptHttp1:
    """A connection of HTTP/1.1; that it is closed is an error."""

    at_once = 1

    def __init__(self, microvm: Microvm):
        self.headers = microvm.headers(RECORD)
        self.connection = microvm.connection()
        self.connection.connect()
        self.connection.auto_open = 0

    def post(self, *bodies: bytes) -> list[tuple[int, bytes]]:
        """One after the other; status and body of each answer."""
        answers = []
        for body in bodies:
            self.connection.request("POST", "/record", body=body, headers=self.headers)
            answer = self.connection.getresponse()
            answers.append((answer.status, answer.read()))
        return answers

    def close(self) -> None:
        self.connection.close()


class KeptHttp2:
    """A connection of HTTP/2, on which several requests may be under way."""

    at_once = 3

    def __init__(self, microvm: Microvm):
        self.headers = [(name.lower(), value) for name, value in microvm.headers(RECORD).items() if name != "Host"]
        self.authority = microvm.endpoint
        context = ssl.create_default_context(cafile=microvm.clients.env["HEARTH_CA_BUNDLE"])
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", microvm.clients.server.endpoint_port), timeout=60)
        self.sock = context.wrap_socket(plain, server_hostname=self.authority.split(":")[0])
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.connection.initiate_connection()

    def post(self, *bodies: bytes) -> list[tuple[int, bytes]]:
        """All at the same time; status and body of each answer, 0 for a stream that was reset."""
        first = {":method": "POST", ":scheme": "https", ":path": "/record", ":authority": self.authority}
        answers: dict[int, tuple[int, bytes]] = {}
        for body in bodies:
            stream = self.connection.get_next_available_stream_id()
            self.connection.send_headers(stream, [*first.items(), *self.headers, ("content-length", str(len(body)))])
            self.connection.send_data(stream, body, end_stream=True)
            answers[stream] = (0, b"")
        left = set(answers)
        while left:
            self.sock.sendall(self.connection.data_to_send())
            received = self.sock.recv(65536)
            assert received, "the connection was closed"
            for event in self.connection.receive_data(received):
                match event:
                    case h2.events.ResponseReceived():
                        answers[event.stream_id] = (int(dict(event.headers)[":status"]), b"")
                    case h2.events.DataReceived():
                        status, body = answers[event.stream_id]
                        answers[event.stream_id] = (status, body + event.data)
                        self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    case h2.events.StreamEnded():
                        left.discard(event.stream_id)
                    case h2.events.StreamReset():
                        answers[event.stream_id] = (0, b"")
                        left.discard(event.stream_id)
                    case h2.events.ConnectionTerminated():
                        raise ConnectionError(f"the connection was ended: {event.error_code}")
        self.sock.sendall(self.connection.data_to_send())
        return list(answers.values())

    def close(self) -> None:
        self.sock.close()

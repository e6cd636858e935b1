"""TLS for clients that read in one thread and write in another, as the threads of
`websockets.sync` do.

Python before 3.13 calls OpenSSL without a lock of its own. A write that falls together with the
reading of the session tickets, which a server sends right after a handshake of TLS 1.3, breaks the
connection: some of a thousand, with any server.
"""
import select
import ssl
import threading


class LockedSocket(ssl.SSLSocket):
    """Blocks as others do, but never inside of OpenSSL, which is left to one thread at a time."""
    lock, patience = None, None

    def do_handshake(self, *arguments) -> None:
        super().do_handshake(*arguments)
        super().settimeout(0)
        self.lock = threading.Lock()

    def settimeout(self, timeout: float | None) -> None:
        if self.lock is None:
            super().settimeout(timeout)
        self.patience = timeout

    def recv(self, *arguments) -> bytes:
        return self._patiently(super().recv, *arguments)

    def sendall(self, data: bytes, *arguments) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._patiently(super().send, rest, *arguments):]

    def _patiently(self, work, *arguments):
        while True:
            try:
                with self.lock:
                    return work(*arguments)
            except ssl.SSLWantReadError:
                ready = select.select([self], [], [], self.patience)
            except ssl.SSLWantWriteError:
                ready = select.select([], [self], [], self.patience)
            if not any(ready):
                raise TimeoutError


def client_context(cafile: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=cafile)
    context.sslsocket_class = LockedSocket
    return context

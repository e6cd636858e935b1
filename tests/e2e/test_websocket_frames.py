"""Every kind of WebSocket frame through the endpoint: what an app in a guest answers is, byte for
byte, what the same program answers that is spoken to directly."""
import asyncio
import subprocess

import pytest

import tunnels
from frames import CLASSES, Case, parse
from harness import PROTOCOLS


@pytest.fixture(scope="module")
def microvm(clients, protocols):
    microvm = clients.run(protocols)
    yield microvm
    microvm.terminate(wait=False)


@pytest.fixture(scope="module")
def local():
    """Port of the app on this host."""
    process = subprocess.Popen([PROTOCOLS / "app", "0"], stdout=subprocess.PIPE, text=True)
    yield int(process.stdout.readline())
    process.kill()
    process.wait()


async def exchange(opening, case: Case) -> tuple[dict[str, str], bytes]:
    """What was agreed upon, and all that came back until the app ended the connection."""
    tunnel = await opening(tunnels.Handshake(case.path, case.headers))
    received = bytearray()

    async def send():
        for start in range(0, len(case.sent), case.chop or len(case.sent)):
            await tunnel.send(case.sent[start:start + (case.chop or len(case.sent))])

    async def receive():
        while data := await tunnel.receive():
            received.extend(data)
    try:
        await asyncio.gather(send(), receive())
    finally:
        await tunnel.close()
    chosen = {name: value for name, value in tunnel.headers.items()
              if name in ("sec-websocket-extensions", "sec-websocket-protocol")}
    return chosen, bytes(received)


def run(opening, case: Case) -> tuple[dict[str, str], bytes]:
    async def limited():
        async with asyncio.timeout(60):
            return await exchange(opening, case)
    return asyncio.run(limited())


@pytest.fixture(scope="module")
def answers(local) -> dict[str, list]:
    """By class, the cases and what the app answers to each when nothing is between."""
    def opening(handshake):
        return tunnels.direct(local, handshake)
    return {kind.__name__: [(case, run(opening, case)) for case in kind()] for kind in CLASSES}


@pytest.mark.parametrize("kind", [kind.__name__ for kind in CLASSES])
def test_the_app_does_as_the_rfc_says(answers, kind):
    for case, (chosen, received) in answers[kind]:
        assert parse(received, "sec-websocket-extensions" in chosen) == case.expected, case.name


@pytest.mark.parametrize("kind", [kind.__name__ for kind in CLASSES])
@pytest.mark.parametrize("version", ["http1", "http2"])
def test_nothing_changes_on_the_way(answers, microvm, version, kind):
    token = microvm.token()

    def opening(handshake):
        return getattr(tunnels, version)(microvm, token, handshake)
    for case, answer in answers[kind]:
        assert run(opening, case) == answer, case.name

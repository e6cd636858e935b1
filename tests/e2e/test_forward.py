"""`hearth forward`: a local port that stands for one of a microVM's."""
import contextlib
import http.client
import http.cookiejar
import pathlib
import re
import subprocess
import time
import urllib.request

import pytest
from websockets.sync.client import connect

from browser import forwarding
from harness import HEARTH, wait_until
from shells import HTTP_AND_SHELL

APP = pathlib.Path(__file__).parent / "apps/forward/app.pl"


@pytest.fixture(scope="module")
def microvm(server, microvm):
    """It has a second app, which goes by its endpoint's name."""
    # In a session of its own, it stays when the shell has gone.
    start = "cat >/tmp/app.pl; setsid perl /tmp/app.pl </dev/null >/dev/null 2>&1 &"
    subprocess.run([HEARTH, "shell", microvm.id, "--", "sh", "-c", start], input=APP.read_bytes(), env=server.env(),
                   check=True, timeout=60)
    wait_until(lambda: microvm.request("/", port=8090).status == 200, 20, "the app listens")
    return microvm


@pytest.fixture(scope="module")
def port(server, microvm):
    with forwarding(server, microvm, "0:8090") as (port,):
        yield port


def ask(port: int, path: str = "/", headers: dict | None = None, method: str = "GET",
        body: bytes | None = None) -> tuple[http.client.HTTPResponse, str]:
    with contextlib.closing(http.client.HTTPConnection("localhost", port, timeout=60)) as connection:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer, answer.read().decode()


def test_the_app_is_asked_by_its_endpoints_name(microvm, port):
    local = f"http://localhost:{port}"
    answer, seen = ask(port, "/path?query", {"Origin": local, "Referer": f"{local}/page", "X-Own": "1",
                                             "X-Aws-Proxy-Port": "1"}, "POST", b"the body")
    assert answer.status == 200
    lines = dict(line.split(": ", 1) for line in seen.lower().splitlines() if ": " in line)
    assert seen.startswith("POST /path?query HTTP/1.1\r\n") and seen.endswith("\r\n\r\nthe body")
    assert lines["host"] == microvm.endpoint
    assert lines["origin"] == f"https://{microvm.endpoint}"
    assert lines["referer"] == f"https://{microvm.endpoint}/page"
    assert lines["x-own"] == "1"
    assert not any(name.startswith("x-aws-proxy") for name in lines)
    _, seen = ask(port, "/", {"Origin": "http://else.example"})
    assert "origin: http://else.example\r\n" in seen.lower()


def test_redirects_and_cookies_stay_local(microvm, port):
    answer, _ = ask(port, "/redirect")
    assert (answer.status, answer.headers["Location"]) == (302, f"http://localhost:{port}/landed?a=b")
    answer, _ = ask(port, "/cookies")
    assert answer.headers.get_all("Set-Cookie") == ["session=1; Path=/", "other=2; Path=/"]
    assert "Strict-Transport-Security" not in answer.headers
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    browser.open(f"http://localhost:{port}/cookies", timeout=60).read()
    seen = browser.open(f"http://localhost:{port}/redirect", timeout=60).read().decode()
    assert seen.startswith("GET /landed?a=b HTTP/1.1\r\n")
    assert re.search(r"(?i)^cookie: (session=1; other=2|other=2; session=1)\r$", seen, re.MULTILINE), seen


def test_the_token_is_renewed_before_it_ends(server, microvm):
    with forwarding(server, microvm, "0:8090", options=("--token-minutes", "1")) as (port,):
        # Made after that of `hearth forward`, so that one ends no later.
        other, headers = time.monotonic(), microvm.headers(8090, microvm.token(minutes=1))
        assert microvm.request("/", headers=headers).status == 200
        with contextlib.closing(http.client.HTTPConnection("localhost", port, timeout=60)) as connection:
            def ended() -> bool:
                connection.request("GET", "/")
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200, f"{time.monotonic() - other:.0f} s after the token was made"
                return microvm.request("/", headers=headers).status == 403
            # A token of its age is good for nothing any more.
            wait_until(ended, 90, "the other token has ended", pause=1)
            assert ended()


def test_a_connection_is_used_again(port):
    with contextlib.closing(http.client.HTTPConnection("localhost", port, timeout=60)) as connection:
        for number in range(5):
            connection.request("GET", f"/{number}")
            assert connection.getresponse().read().startswith(b"GET /%d " % number)


def test_a_websocket(port):
    with connect(f"ws://localhost:{port}/echo", open_timeout=60) as socket:
        for message in ("text", b"\x00\xff" * 50, "λ"):
            socket.send(message)
            assert socket.recv(timeout=60) == message


def test_several_ports_and_a_microvm_that_sleeps(server, run):
    microvm = run(ingressNetworkConnectors=HTTP_AND_SHELL)
    with forwarding(server, microvm, "0:8080", "0:8081", "0:9999") as (app, probe, nothing):
        before = int(ask(app, "/count")[1])
        assert ask(probe, "/", method="POST", body=b"echo probe")[1] == "probe\n"
        answer, _ = ask(nothing)
        assert (answer.status, answer.headers["x-aws-proxy-error"]) == (502, "APP_CONNECT_FAILED")
        microvm.suspend()
        assert int(ask(app, "/count")[1]) == before + 1
        assert microvm.state == "RUNNING"


def test_other_names_are_refused(port):
    """Else any page could make its own name point here and read what the microVM says."""
    for host, status in (("evil.example", 403), (f"evil.example:{port}", 403), (f"127.0.0.1:{port}", 200)):
        answer, text = ask(port, "/", {"Host": host})
        assert answer.status == status, text


def test_what_goes_wrong_is_one_sentence(server, microvm, port):
    def fails(*arguments: str) -> str:
        done = subprocess.run([HEARTH, "forward", *arguments], env=server.env(), capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (1, ""), done
        return done.stderr
    assert fails(microvm.id, f"{port}:80").startswith(f"hearth: cannot listen on 127.0.0.1:{port}: Address already in use")
    unknown = "microvm-00000000-0000-4000-8000-000000000000"
    assert fails(unknown, "0:80") == f"hearth: MicroVM not found: {unknown} (ResourceNotFoundException)\n"

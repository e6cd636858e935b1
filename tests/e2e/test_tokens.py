"""What operators do about tokens, and what they see of the traffic of a real microVM."""
import contextlib
import json
import os
import subprocess

import pytest

from endpoint import Clients
from harness import HEARTH, wait_until


@pytest.fixture
def logged(another_server, base, request):
    """Clients of a server of its own that has an access log, and the log."""
    path = base / f"{request.node.name}-access.log"
    server = another_server({"access_log": path})
    return Clients(server), path


def hearth(clients, *arguments: str) -> str:
    done = subprocess.run([HEARTH, *arguments], env=clients.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def lines(path, count: int) -> list[dict]:
    def there():
        text = path.read_text()
        return text if text.endswith("\n") and text.count("\n") >= count else None
    return [json.loads(line) for line in wait_until(there, 20, f"{count} lines in the access log").splitlines()]


def test_revoking_and_rotating_across_a_restart(logged, image):
    clients, _ = logged
    server, microvm, other = clients.server, clients.run(image), clients.run(image)
    status = lambda microvm, token: microvm.request("/", token=token).status
    old, others = microvm.token(), other.token()
    assert (status(microvm, old), status(other, others)) == (200, 200)
    # A leaked token of one microVM opens nothing else.
    assert status(other, old) == 403
    with contextlib.closing(microvm.connection()) as stream:
        stream.request("GET", "/stream?n=20&ms=200", headers=microvm.headers(token=old))
        answer = stream.getresponse()
        assert answer.readline() == b"20\n"
        assert "revoked" in hearth(clients, "token", "revoke", microvm.id)
        assert status(microvm, old) == 403
        assert answer.readline() == b"19\n", "what is open goes on"
    new = microvm.token()
    assert (status(microvm, new), status(other, others)) == (200, 200)

    key_file = server.data_dir / "endpoint-token-key.json"
    before = json.loads(key_file.read_text())
    assert "2 keys read them" in hearth(clients, "token", "rotate-keys", "--data-dir", str(server.data_dir))
    after = json.loads(key_file.read_text())
    assert [key["kid"] for key in after["keys"]][1:] == [key["kid"] for key in before["keys"]]
    assert oct(key_file.stat().st_mode & 0o777) == "0o600"
    newest = microvm.token()
    assert newest.split(".")[0] != new.split(".")[0]
    assert [status(microvm, token) for token in (old, new, newest)] == [403, 200, 200]

    server.api_addr, server.endpoint_addr = server.api_url.removeprefix("http://"), f"127.0.0.1:{server.endpoint_port}"
    server.kill()
    server.start()
    for found in (microvm, other):
        found.wait_state("RUNNING")
    assert [status(microvm, token) for token in (old, new, newest)] == [403, 200, 200]
    assert status(other, others) == 200
    assert status(microvm, microvm.token()) == 200


def test_the_log_and_the_counters_tell_what_a_request_was(logged, image):
    clients, path = logged
    microvm = clients.run(image)
    body = os.urandom(100_000)
    assert microvm.request("/echo?key=secret", "POST", body).body == body
    assert microvm.request("/", port=8082).status == 502
    assert microvm.request("/", headers={"Host": microvm.endpoint}).status == 403
    microvm.suspend()
    assert microvm.request("/").status == 200
    entries = lines(path, 4)
    assert [(entry["path"], entry["status"], entry["error"]) for entry in entries] == [
        ("/echo", 200, None), ("/", 502, "APP_CONNECT_FAILED"), ("/", 403, "UNAUTHORIZED"), ("/", 200, None)]
    assert (entries[0]["bytesIn"], entries[0]["bytesOut"]) == (len(body), len(body))
    assert [entry["microvmId"] for entry in entries] == [microvm.id, microvm.id, None, microvm.id]
    assert entries[3]["resumeWaitMs"] > 0 and entries[0]["resumeWaitMs"] is None
    text = path.read_text()
    assert "secret" not in text and microvm.token()[:60] not in text
    counters = json.loads(hearth(clients, "counters", microvm.id, "--json"))
    assert (counters["requests"], counters["errors"], counters["resumeWaits"]) == (3, 1, 1)
    assert counters["bytesIn"] == len(body) and counters["bytesOut"] > len(body)
    assert counters["resumeWaitMilliseconds"] > 0
    assert "requests      3" in hearth(clients, "counters", microvm.id)
    # The answer's numbers are the caller's to see only.
    with pytest.raises(AssertionError, match="ResourceNotFoundException"):
        hearth(clients, "counters", "microvm-00000000-0000-4000-8000-000000000000")

    # Rotated as logrotate does.
    old = path.with_suffix(".1")
    path.rename(old)
    clients.server.process.send_signal(1)
    wait_until(path.exists, 10, "the log is open again")
    assert microvm.request("/again").status in (200, 404)
    assert [entry["path"] for entry in lines(path, 1)] == ["/again"]

"""The hooks of a microVM's life, as the app inside sees them and as the record tells."""
import concurrent.futures
import json
import time
import uuid

import pytest

from endpoint import Clients
from harness import files_with, wait_until
from images import HOOK_TIMEOUTS

ADVICE = "Please check your hook endpoint and application logs for more details."


@pytest.fixture(scope="module")
def hooked(clients):
    """ARN of an image with all hooks."""
    return clients.image_arn("hooks")


@pytest.fixture
def launch(clients, hooked):
    """Starts microVMs of the image with the hooks, whose payload says how they answer."""
    started = []

    def start(payload: str | None = None, wait: bool = True, **more):
        if payload is not None:
            more["runHookPayload"] = payload
        started.append(clients.run(hooked, wait=False, **more))
        # Afterwards it may have ended, and there are no tokens for what has ended.
        started[-1]._token = started[-1].token()
        if wait:
            started[-1].wait_state("RUNNING")
        return started[-1]
    yield start
    for microvm in started:
        microvm.terminate(wait=False)


def log(microvm) -> list[str]:
    """What the app has noted, without what a hook's request looked like."""
    return [line.split(" host=")[0] for line in microvm.request("/log").text.splitlines()]


def lines(microvm) -> list[str]:
    return microvm.clients.log_lines("/aws/lambda-microvms/hooks", microvm.id)


def ended(microvm, sentence: str) -> set[str]:
    """Waits until it has ended with this reason; the states that were seen on the way."""
    seen = set()

    def over():
        seen.add(state := microvm.state)
        return state == "TERMINATED"
    wait_until(over, 60, f"{microvm.id} ends")
    assert microvm.get()["stateReason"] == sentence
    return seen


def test_the_order_of_a_life(launch):
    payload = '{"a": "\\u00e4 \U0001F600", "b": "two\\nlines"}'
    microvm = launch(payload)
    assert microvm.request("/one").status == 200
    body = microvm.request("/body").text
    assert body.startswith('{"microvmId":"%s","runHookPayload":"' % microvm.id)
    assert json.loads(body) == {"microvmId": microvm.id, "runHookPayload": payload}
    first = microvm.request("/log").text.splitlines()[1]
    assert first == "begin run host=localhost:9000 type=application/json agent=0 from=127.0.0.1"
    microvm.suspend()
    # Woken by a request, which the app gets after its resume hook.
    assert microvm.request("/two").status == 200
    expected = ["started", "begin run", "end run", "request /one", "begin suspend", "end suspend", "begin resume",
                "end resume", "request /two"]
    assert log(microvm) == expected
    bare = [line for line in microvm.request("/log").text.splitlines() if line.startswith(("begin suspend", "begin resume"))]
    assert all(line.endswith(" host=localhost:9000 type=- agent=0 from=127.0.0.1") for line in bare), bare
    microvm.terminate()
    assert microvm.get()["stateReason"] == "Success."
    # What the app said of its end got out before its guest went.
    assert [line.split(" host=")[0] for line in lines(microvm)] == [*expected[1:], "begin terminate", "end terminate"]


def test_no_request_is_before_its_hook(launch):
    microvm = launch("run=wait resume=wait", wait=False)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        held = [pool.submit(microvm.request, f"/early/{n}") for n in range(4)]
        seen = wait_until(lambda: microvm.state, 5, "a state")
        assert seen == "PENDING"
        assert [answer.result().status for answer in held] == [200] * 4
        noted = log(microvm)
        assert noted[:3] == ["started", "begin run", "end run"]
        assert sorted(noted[3:]) == [f"request /early/{n}" for n in range(4)]
        microvm.suspend()
        held = [pool.submit(microvm.request, f"/late/{n}") for n in range(4)]
        microvm.wait_state("PENDING")
        assert [answer.result().status for answer in held] == [200] * 4
    noted = log(microvm)[7:]
    assert noted[:4] == ["begin suspend", "end suspend", "begin resume", "end resume"]
    assert sorted(noted[4:]) == [f"request /late/{n}" for n in range(4)]


def test_requests_during_the_suspend_hook_wait_for_the_next_life(launch):
    microvm = launch("suspend=wait")
    microvm.clients.microvms.suspend_microvm(microvmIdentifier=microvm.id)
    microvm.wait_state("SUSPENDING")
    assert microvm.request("/between").status == 200
    assert log(microvm)[3:] == ["begin suspend", "end suspend", "begin resume", "end resume", "request /between"]


@pytest.mark.parametrize("how, says", [
    ("400", "returned HTTP status 400"),
    ("503", "returned HTTP status 503"),
    ("slow", "timed out"),
    ("break", "failed"),
])
def test_a_run_hook_that_fails(launch, how, says):
    microvm = launch(f"run={how}", wait=False)
    assert "RUNNING" not in ended(microvm, f"Run lifecycle hook {says}. {ADVICE}")
    assert microvm.request("/never").status == 502
    # The reason refers to the log, so what the app said must be there; no other hook was called.
    noted = [line.split(" host=")[0] for line in lines(microvm)]
    assert noted[0] == "begin run" and not any("terminate" in line for line in noted), noted


@pytest.mark.parametrize("how, says", [("500", "returned HTTP status 500"), ("slow", "timed out"), ("break", "failed")])
def test_a_suspend_hook_that_fails(launch, how, says):
    microvm = launch(f"suspend={how}")
    microvm.clients.microvms.suspend_microvm(microvmIdentifier=microvm.id)
    assert "SUSPENDED" not in ended(microvm, f"Suspend lifecycle hook {says}. {ADVICE}")


@pytest.mark.parametrize("plan, says", [
    ("resume=409", "returned HTTP status 409"),
    ("resume=slow", "timed out"),
    ("suspend=deaf", "connection was refused"),
    ("resume=break", "failed"),
])
def test_a_resume_hook_that_fails(launch, plan, says):
    microvm = launch(plan)
    microvm.suspend()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        held = pool.submit(microvm.request, "/never")
        assert "RUNNING" not in ended(microvm, f"Resume lifecycle hook {says}. {ADVICE}")
        assert held.result().status == 502
    assert not any("/never" in line for line in lines(microvm))


@pytest.mark.parametrize("how", ["500", "slow", "break"])
def test_a_terminate_hook_may_answer_what_it_likes(launch, how):
    microvm = launch(f"terminate={how}")
    microvm.terminate(wait=False)
    microvm.wait_state("TERMINATING")
    ended(microvm, "Success.")
    assert any(line.startswith("begin terminate") for line in lines(microvm))


def test_an_app_that_ends_in_a_hook_is_told_of_nothing_more(launch):
    microvm = launch("run=exit", wait=False)
    ended(microvm, "Container Stopped with Exit Code: 7")
    microvm = launch("suspend=exit")
    microvm.clients.microvms.suspend_microvm(microvmIdentifier=microvm.id)
    ended(microvm, "Container Stopped with Exit Code: 7")
    assert not any("terminate" in line for line in lines(microvm))


def test_no_hook_wakes_what_is_suspended(launch):
    microvm = launch("resume=wait")
    microvm.suspend()
    microvm.terminate()
    assert not any("resume" in line or "terminate" in line for line in lines(microvm))


@pytest.mark.parametrize("plan, act", [("run=slow", None), ("suspend=slow", "suspend"), ("resume=slow", "resume")])
def test_a_termination_waits_for_no_hook(launch, plan, act):
    microvm = launch(plan, wait=act is not None)
    if act:
        microvm.clients.microvms.suspend_microvm(microvmIdentifier=microvm.id)
    if act == "resume":
        microvm.wait_state("SUSPENDED")
        microvm.clients.microvms.resume_microvm(microvmIdentifier=microvm.id)
    wait_until(lambda: any(f"begin {act or 'run'}" in line for line in lines(microvm)), 20, "the hook is called")
    asked = time.monotonic()
    microvm.terminate(wait=False)
    microvm.wait_state("TERMINATING", "TERMINATED")
    ended(microvm, "Success.")
    assert time.monotonic() - asked < min(HOOK_TIMEOUTS.values()), "it has waited for the hook's timeout"
    assert microvm.vmm() is None


def test_the_payload_is_for_the_run_hook_alone(another_server, clients, hooked, monkeypatch):
    monkeypatch.setenv("HEARTH_LOG", "debug")
    secret = f"payload-{uuid.uuid4()}"
    other = another_server()
    users = type(clients)(other)
    microvm = users.run(hooked, runHookPayload=secret)
    assert secret in microvm.request("/body").text
    assert secret not in repr(microvm.get()) + repr(users.microvms.list_microvms())
    microvm.terminate()
    # Neither in a file, nor in a page of the database that was deleted, nor in the server's log.
    assert files_with(secret, other.data_dir) == [] and secret not in other.log_path.read_text()
    assert files_with(microvm.id, other.data_dir), "the search finds what is there"


def test_an_operator_can_close_the_port_of_the_hooks(launch, hooked, another_server):
    """Open to a token that covers it, as on the service, unless the configuration
    says otherwise."""
    hook = "/aws/lambda-microvms/runtime/v1/suspend"
    assert launch().request(hook, "POST", port=9000).status == 200
    microvm = Clients(another_server({"hooks_port_reachable": False})).run(hooked)
    refused = microvm.request(hook, "POST", port=9000)
    assert (refused.status, refused.headers["x-aws-proxy-error"], refused.body) == (
        403, "UNAUTHORIZED", b"Access to port denied")
    assert "suspend" not in microvm.request("/log").text
    microvm.suspend()
    assert "suspend" in microvm.request("/log").text

"""What has changed, and why: ListEvents of a real microVM's life, as pages, held back, as a stream and by `hearth events`."""
import json
import queue
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import wire
from harness import ACCOUNT, HEARTH, REGION, wait_until
from scenario import egress
from test_authorization import allow, iam, user  # noqa: F401  fixtures

PATH = "/hearth/2026-11-22/events"


def events(clients, keys: Credentials | None = None, **query) -> dict:
    answer = wire.send(clients, "GET", f"{PATH}?{urllib.parse.urlencode(query)}", keys=keys)
    assert answer.status == 200, answer
    return answer.json


def all_of(clients, resource: str) -> list[dict]:
    """Page by page."""
    found, after = [], 0
    while True:
        page = events(clients, resource=resource, after=after, maxResults=2)
        if not page["events"]:
            return found
        assert len(page["events"]) <= 2
        found += page["events"]
        after = page["nextAfter"]


def states(found: list[dict]) -> list[tuple]:
    return [(event["from"], event["to"]) for event in found if event["what"] == "STATE"]


@pytest.fixture
def lived(clients, image):
    """A microVM that was launched, suspended, woken by a request and terminated."""
    microvm = clients.run(image)
    microvm.suspend()
    assert microvm.request("/").status == 200
    microvm.terminate()
    return microvm


def test_a_life_is_told(clients, lived):
    found = all_of(clients, lived.id)
    assert states(found) == [
        (None, "LAUNCHING"), ("LAUNCHING", "RUNNING"), ("RUNNING", "SUSPENDING"), ("SUSPENDING", "SUSPENDED"),
        ("SUSPENDED", "RESUMING"), ("RESUMING", "RUNNING"), ("RUNNING", "TERMINATING"), ("TERMINATING", "TERMINATED"),
    ]
    causes = [event["cause"] for event in found]
    assert causes == ["API", "API", "API", "API", "TRAFFIC", "TRAFFIC", "API", "API"]
    for event in found:
        asked = event["cause"] == "API"
        assert (event["principal"] or "").endswith(":root") == asked and bool(event["requestId"]) == asked, event
        assert event["resourceType"] == "microvm" and event["resource"] == lived.id and event["imageArn"], event
    assert found[-1]["reason"] == "Success."
    numbers = [event["sequence"] for event in found]
    assert numbers == sorted(set(numbers))
    times = [event["time"] for event in found]
    assert times == sorted(times) and time.time() - 3600 < times[0] <= time.time()
    # Who asked, and for which request: that of the answer.
    assert len({event["requestId"] for event in found if event["cause"] == "API"}) == 3


def test_the_command_tells_it_too(clients, lived):
    def hearth(*arguments):
        done = subprocess.run([HEARTH, "events", *arguments], env=clients.env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()
    lines = hearth(lived.id)
    assert len(lines) == 8 and "new: LAUNCHING (API by arn:aws:iam::" in lines[0], lines
    assert lines[-1].endswith(": Success.") and "TERMINATING → TERMINATED" in lines[-1]
    last = [json.loads(line) for line in hearth(lived.id, "--json", "-n", "1")]
    assert [event["to"] for event in last] == ["TERMINATED"]
    assert hearth(lived.id, "--after", str(last[0]["sequence"])) == []


def test_who_waits_is_told_at_once(clients, image):
    microvm = clients.run(image)
    after = events(clients, resource=microvm.id)["nextAfter"]
    began = time.monotonic()
    assert events(clients, resource=microvm.id, after=after, waitSeconds=1)["events"] == []
    assert time.monotonic() - began >= 1
    answers = queue.Queue()
    asking = threading.Thread(target=lambda: answers.put(events(clients, resource=microvm.id, after=after, waitSeconds=15)))
    asking.start()
    microvm.terminate(wait=False)
    page = answers.get(timeout=14)
    asking.join()
    assert page["events"][0]["from"] == "RUNNING" and page["events"][0]["sequence"] > after


def test_a_stream_goes_on_where_the_client_was(clients, image):
    microvm = clients.run(image)

    def stream(**headers):
        url = f"{clients.server.api_url}{PATH}?resource={microvm.id}"
        request = AWSRequest("GET", url, {"Accept": "text/event-stream", **headers})
        keys = Credentials(clients.env["AWS_ACCESS_KEY_ID"], clients.env["AWS_SECRET_ACCESS_KEY"])
        botocore.auth.SigV4Auth(keys, "lambda", REGION).add_auth(request)
        return urllib.request.urlopen(urllib.request.Request(url, headers=dict(request.headers)), timeout=20)

    def next_of(answer) -> tuple[int, dict]:
        frame = {}
        while "data" not in frame:
            name, _, value = answer.readline().decode().rstrip("\n").partition(": ")
            frame[name] = value
        return int(frame["id"]), json.loads(frame["data"])

    with stream(**{"Last-Event-ID": "0"}) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        number, first = next_of(answer)
        assert (first["from"], first["to"], first["sequence"]) == (None, "LAUNCHING", number)
        assert next_of(answer)[1]["to"] == "RUNNING"
    # One more happens while nobody listens.
    microvm.terminate()
    with stream(**{"Last-Event-ID": str(number)}) as answer:
        assert [next_of(answer)[1]["to"] for _ in range(3)] == ["RUNNING", "TERMINATING", "TERMINATED"]


def test_one_sees_what_one_may(clients, lived, user):  # noqa: F811
    def keys(made) -> Credentials:
        return Credentials(made["aws_access_key_id"], made["aws_secret_access_key"])
    image = all_of(clients, lived.id)[0]["imageArn"]
    may = keys(user(allow("lambda:ListEvents", image)))
    other = keys(user(allow("lambda:ListEvents", image.rsplit(":", 1)[0] + ":other")))
    assert len(events(clients, may, resource=lived.id)["events"]) == 8
    hidden = events(clients, other, resource=lived.id, after=0)
    assert hidden["events"] == [] and hidden["nextAfter"] > 0


def test_bad_questions_have_an_answer(clients):
    for query, complaint in [
        ("after=-1", "after"), ("after=x", "after"), ("waitSeconds=21", "waitSeconds"), ("maxResults=0", "maxResults"),
        ("maxResults=1001", "maxResults"), ("resource=" + "x" * 3000, "resource"),
    ]:
        answer = wire.send(clients, "GET", f"{PATH}?{query}")
        assert (answer.status, answer.error) == (400, "ValidationException") and complaint in answer.message, answer
    assert events(clients, resource="nothing")["events"] == []


def test_the_story_of_an_image_that_cannot_be_built_and_is_deleted(clients):
    arn = clients.create_image("untold", "s3://no-such-bucket/app.zip")
    state, why = clients.wait_built(arn)
    assert state == "CREATE_FAILED" and why
    clients.delete_image(arn)
    found = all_of(clients, arn)
    told = {part: states([event for event in found if (event["imageVersion"], event["buildId"]) == part])
            for part in {(event["imageVersion"], event["buildId"]) for event in found}}
    builds = [of for (_, build), of in told.items() if build]
    versions = [of for (version, build), of in told.items() if version and not build]
    assert told[None, None][:2] == [(None, "CREATING"), ("CREATING", "CREATE_FAILED")]
    assert told[None, None][-1][1] is None, "in the end it is gone"
    assert len(builds) == 1 and builds[0][0] == (None, "PENDING") and ("FAILED" in {to for _, to in builds[0]})
    assert len(versions) == 1 and versions[0][0] == (None, "PENDING")
    causes = [event["cause"] for event in found]
    assert causes[0] == "API" == causes[-1] and "BUILD" in causes, causes
    failed = next(event for event in found if event["buildId"] and event["to"] == "FAILED")
    assert failed["reason"] and failed["principal"] is None


def test_the_story_of_a_connector(clients):
    made = clients.core.create_network_connector(
        Name="told", Configuration=egress("subnet-1"), OperatorRole=f"arn:aws:iam::{ACCOUNT}:role/operator")
    arn = made["Arn"]
    wait_until(lambda: clients.core.get_network_connector(Identifier=arn)["State"] == "ACTIVE", 30, "it is ACTIVE")
    clients.delete_connector("told")
    found = all_of(clients, arn)
    assert states(found)[:2] == [(None, "PENDING"), ("PENDING", "ACTIVE")] and states(found)[-1][1] is None, found
    assert {event["resourceType"] for event in found} == {"network-connector"}

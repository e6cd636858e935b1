"""botocore's models of lambda-microvms and lambda-core against the server: what it must refuse,
and what it answers.

The constraints are derived from the installed models, so that a newer botocore brings its own.
boto3 itself refuses some of these requests, therefore they are signed and sent as they are.
"""
import json
import pathlib

import pytest

import answers
import model
import wire
from refusals import documented, refusal_problem

_RUNTIMES = "Lambda's custom runtimes are no part of MicroVMs."
# Operations of the models that the server does not have. The list may only shrink: one of them that
# answers anything else fails the test, and from then on its constraints are tested.
ABSENT = {
    "CreateRuntime": _RUNTIMES,
    "CreateRuntimeAlias": _RUNTIMES,
    "CreateRuntimeVersion": _RUNTIMES,
    "DeleteRuntime": _RUNTIMES,
    "DeleteRuntimeAlias": _RUNTIMES,
    "DeleteRuntimeVersion": _RUNTIMES,
    "GetRuntime": _RUNTIMES,
    "GetRuntimeAlias": _RUNTIMES,
    "GetRuntimeVersion": _RUNTIMES,
    "ListRuntimeAliases": _RUNTIMES,
    "ListRuntimeVersions": _RUNTIMES,
    "ListRuntimes": _RUNTIMES,
    "RestoreRuntime": _RUNTIMES,
    "UpdateRuntime": _RUNTIMES,
    "UpdateRuntimeAlias": _RUNTIMES,
    "UpdateRuntimeVersion": _RUNTIMES,
}
# Constraints that the server deliberately does not enforce as the model has them, by `operation
# path rule`. A constraint that it does enforce must not be here.
OTHERWISE = {
    "CreateNetworkConnector Name pattern": "The model allows an ARN as well; what that would name is not known.",
    "RunMicrovm idlePolicy.maxIdleDurationSeconds min": "The operator's `minimum_idle_seconds`, 1 in these tests.",
}
# The server's faults, in the same form. This list may only shrink, too.
FAULTS: dict[str, str] = {
}
SERVED = [name for name in model.operations() if name not in ABSENT]
NAMES = pathlib.Path(__file__).parent / "model_members.json"


def call(clients, name: str, values: dict) -> wire.Answer:
    operation = model.operations()[name]
    answer = wire.send(clients, *model.request(operation, values))
    answers.record(operation, answer.status, answer.headers, answer.body)
    return answer


def test_the_documentation_lists_what_is_served():
    assert documented("Operations of lambda-microvms", "Operations of lambda-core") == sorted(SERVED)


# What it refuses.

@pytest.fixture(scope="module", autouse=True)
def no_image(clients):
    """CreateMicrovmImage makes one when a request is right, or wrongly accepted."""
    made = clients.image_arn(model.MADE)

    def delete():
        if clients.image_state(made):
            clients.wait_built(made)
            clients.delete_image(made)
    delete()
    yield
    delete()


@pytest.mark.parametrize("name", SERVED)
def test_every_constraint_of_an_operation_is_enforced(clients, name):
    operation = model.operations()[name]
    found = {f"{name} {broken.key}": refusal_problem(broken, call(clients, name, broken.input))
             for broken in model.violations(operation)}
    new = [f"{key}: {problem}" for key, problem in found.items() if problem and key not in OTHERWISE | FAULTS]
    assert not new, "constraints of the model that the server does not enforce:\n" + "\n".join(new)
    over = [key for key in OTHERWISE | FAULTS if key.split()[0] == name and not found.get(key)]
    assert not over, "enforced, or no constraint of the model; delete them from the tables:\n" + "\n".join(over)


@pytest.mark.parametrize("name", SERVED)
def test_a_request_that_breaks_none_is_not_refused_for_its_shape(clients, name):
    """So that the refusals are for what was broken. Most of these are about things
    that do not exist."""
    shape = model.operations()[name].input_shape
    answer = call(clients, name, model.good(shape) if shape else {})
    assert answer.status < 500 and "validation error" not in answer.message, answer


def test_tables_name_what_the_model_has():
    named = {*ABSENT, *(key.split()[0] for key in OTHERWISE | FAULTS)}
    foreign = sorted(named - model.operations().keys())
    assert not foreign, f"operations that the model does not have: {foreign}"


# What it does not have.

@pytest.mark.parametrize("name", ABSENT)
def test_an_absent_operation_says_so(clients, name):
    shape = model.operations()[name].input_shape
    answer = call(clients, name, model.good(shape) if shape else {})
    assert answer.error == "UnknownOperationException", f"{name} is served now ({answer}); delete it from ABSENT"


def test_names_of_the_model_are_known():
    """A newer botocore may know more; then look at it, and write model_members.json anew
    (model.py tells how)."""
    def flat(names, path: str = "") -> set[str]:
        items = names.items() if isinstance(names, dict) else [(name, {}) for name in names]
        return {path.strip()} if not items else {text for name, inner in items for text in flat(inner, f"{path} {name}")}
    known, installed = flat(json.loads(NAMES.read_text())), flat(model.names())
    news = [f"new: {name}" for name in sorted(installed - known)]
    news += [f"gone: {name}" for name in sorted(known - installed)]
    assert not news, "botocore's models are not those that the server was made for:\n" + "\n".join(news)


# What it answers. Every answer of the session is looked at (answers.py); this shows that the
# look is not a blind one.

def test_answers_are_looked_at(clients):
    before = answers.seen["ListMicrovms"]
    clients.boto("lambda-microvms").list_microvms()
    assert answers.seen["ListMicrovms"] == before + 1


GOOD_MICROVM = {
    "microvmId": "microvm-1", "state": "RUNNING", "imageArn": model.IMAGE, "imageVersion": "1.0", "startedAt": 1.5,
}


@pytest.mark.parametrize("change, says", [
    ({}, None),
    ({"state": "ASLEEP"}, "items[].state is 'ASLEEP', none of"),
    ({"state": None}, "items[].state is missing"),
    ({"startedAt": "2026-01-01T00:00:00Z"}, "items[].startedAt is '2026-01-01T00:00:00Z', no timestamp"),
    ({"imageVersion": 1}, "items[].imageVersion is 1, no string"),
    ({"more": 1}, "items[].more is unknown"),
])
def test_a_misfit_is_found(change, says):
    operation = model.operations()["ListMicrovms"]
    body = json.dumps({"items": [GOOD_MICROVM | change], "nextToken": None}).encode()
    found = answers.problems(operation, 200, {"x-amzn-requestid": "1"}, body)
    assert (len(found) == 1 and says in found[0]) if says else found == [], found


@pytest.mark.parametrize("status, kind, body, says", [
    (404, "ResourceNotFoundException:http://x/", {"message": "m", "resourceId": None, "resourceType": None}, None),
    (400, "ResourceNotFoundException", {"message": "m"}, "with HTTP 400 instead of 404"),
    (409, "ConflictException", {"message": "m"}, "which the operation does not declare"),
    (500, "", {}, "which the operation does not declare"),
    (400, "ValidationException", {"message": 7}, "message is 7, no string"),
])
def test_a_misfit_of_an_error_is_found(status, kind, body, says):
    operation = model.operations()["GetMicrovm"]
    headers = {"x-amzn-requestid": "1", "x-amzn-errortype": kind}
    found = answers.problems(operation, status, headers, json.dumps(body).encode())
    assert (len(found) == 1 and says in found[0]) if says else found == [], found

"""Replays recorded exchanges with the live service and names every difference.

They are looked for beside the checkout, in `../shared/aws/recorded`, and are not
part of the repository.
"""
import json
import re
import time
import urllib.parse
import uuid

import answers
import model
import wire
from harness import ACCOUNT, REGION, ROOT, wait_until

DIRECTORY = ROOT.parent / "shared/aws/recorded"
RECORDED_ACCOUNT = "123456789012"
# States that end by themselves, and those that may be seen on the way to the wanted one.
IN_FLIGHT = {"CREATING", "UPDATING", "DELETING", "PENDING", "IN_PROGRESS", "TERMINATING", "SUSPENDING"}
BEFORE = {
    "CREATED": {"CREATING"}, "UPDATED": {"UPDATING"}, "SUCCESSFUL": {"PENDING", "IN_PROGRESS"},
    "RUNNING": {"PENDING"}, "TERMINATED": {"RUNNING", "TERMINATING"}, "ACTIVE": {"PENDING"},
}
# Members that list what other tests have, too.
LISTS = {"items", "NetworkConnectors"}
# How long a state that does not end by itself is waited for all the same.
SETTLED_SECONDS = 3
# What differs between any two runs, or between two hosts, on both sides.
PLACEHOLDERS = [(re.compile(pattern), placeholder) for pattern, placeholder in (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (rf"\b({ACCOUNT}|{RECORDED_ACCOUNT})\b", "ACCOUNT"),
    (rf"\b{REGION}\b", "REGION"),
    (r"^UUID\.lambda-microvm\..+", "ENDPOINT"),
    (r"^(subnet|sg)-[0-9a-f]+$", r"\1-ID"),
    (r"^([A-Z]+)#\d{8}$", r"\1#yymmddhh"),
    (r"^COMPACT-JWE-OF-\d+-CHARACTERS$|^[\w-]{50,}\.\.[\w-]{16}\.[\w-]{500,}\.[\w-]{22}$", "JWE"),
    (r"^(ARM_64|X86_64)$", "ARCHITECTURE"),
    (r"^(GRAVITON|INTEL)$", "CHIPSET"),
)]


def load() -> dict[str, dict]:
    """The cases by id, in their order; none where there are no recordings."""
    files = sorted((DIRECTORY / "cases").glob("*.json"))
    return {case["id"]: case for case in (json.loads(file.read_text()) for file in files)}


def normal(value):
    """With placeholders for what is not the same twice."""
    match value:
        case dict():
            return {key: normal(item) for key, item in value.items()}
        case list():
            return [normal(item) for item in value]
        case str():
            for pattern, placeholder in PLACEHOLDERS:
                value = pattern.sub(placeholder, value)
    return value


def pick(value, path: str):
    """`items.0.buildId` of a body; None where there is nothing."""
    for step in path.split("."):
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (LookupError, TypeError, ValueError):
            return None
    return value


def compare(recorded, got, path: str, part: bool = False):
    """Yields (path, sentence) where two normalised values differ; `part`: others may
    have more members."""
    if recorded == "TIMESTAMP":
        # Whether it is written as the model wants is looked at in answers.py.
        if not isinstance(got, int | float | str) or isinstance(got, bool):
            yield path, f"a timestamp was recorded, got {got!r}"
    elif isinstance(recorded, dict) and isinstance(got, dict):
        for name in recorded | got:
            place = f"{path}.{name}".lstrip(".")
            if name not in got:
                yield place, f"{recorded[name]!r} was recorded, got no such member"
            elif name in recorded:
                yield from compare(recorded[name], got[name], place, part)
            elif not part:
                yield place, f"no such member was recorded, got {got[name]!r}"
    elif isinstance(recorded, list) and isinstance(got, list):
        if len(recorded) != len(got):
            yield path, f"{len(recorded)} items were recorded, got {len(got)}"
        for index, pair in enumerate(zip(recorded, got)):
            yield from compare(*pair, f"{path}.{index}", part)
    elif path.endswith("SizeInBytes"):
        if type(got) is not int or got <= 0:
            yield path, f"a size was recorded, got {got!r}"
    elif type(recorded) is not type(got) or recorded != got:
        yield path, f"{recorded!r} was recorded, got {got!r}"


class Replay:
    """One case against one server. `differences` has a sentence by `case/step` or
    `case/step/member`."""

    def __init__(self, clients, case: dict):
        self.clients, self.case, self.differences = clients, case, {}
        self.values = {"region": REGION, "account": ACCOUNT}
        for name, value in case.get("params", {}).items():
            self.values[name] = self.filled(value).replace(RECORDED_ACCOUNT, ACCOUNT)
        # ARNs and ids of what the case has made, or reads.
        self.own: set[str] = set()

    def run(self) -> dict[str, str]:
        self.tidy()
        try:
            for step in self.case["steps"]:
                self.step(step)
        finally:
            self.tidy()
        return self.differences

    def tidy(self) -> None:
        """Removes what this case left behind when it ended early."""
        for step in self.case["steps"]:
            if step["operation"] == "CreateMicrovmImage":
                arn = self.clients.image_arn(step["body"]["name"])
                self.clients.end_microvms(arn)
                wait_until(lambda: self.clients.image_state(arn) not in IN_FLIGHT - {"DELETING"}, 300, f"{arn} is settled")
                self.clients.delete_image(arn)
            if step["operation"] == "CreateNetworkConnector":
                self.clients.delete_connector(step["body"]["Name"])

    def differ(self, step: dict, path: str, sentence: str) -> None:
        self.differences["/".join(filter(None, (self.case["id"], step["name"], path)))] = sentence

    def filled(self, value):
        """With `${name}` replaced; KeyError with the name that no step has captured."""
        match value:
            case dict():
                return {key: self.filled(item) for key, item in value.items()}
            case list():
                return [self.filled(item) for item in value]
            case str():
                return re.sub(r"\$\{(\w+)\}", lambda found: self.values[found[1]], value)
        return value

    def step(self, step: dict) -> None:
        try:
            path, body = self.filled(step["path"]), self.filled(step.get("body"))
        except KeyError as missing:
            return self.differ(step, "", f"cannot be sent, since nothing gave {missing}")
        if body and "ClientToken" in body:
            # A kept data directory may know the recorded one.
            body["ClientToken"] += f"-{uuid.uuid4().hex[:8]}"
        answer = self.until(step, path, body) if "until" in step else self.send(step, path, body)
        text, meta = self.recorded(step)
        expect = step.get("expect", {})
        status, error = meta.get("status", expect.get("status")), meta.get("errorType", expect.get("errorType"))
        if (answer.status, answer.error) != (status, error):
            return self.differ(step, "", f"HTTP {status} {error or ''} was recorded, got {answer}")
        for name, place in step.get("capture", {}).items():
            if isinstance(value := pick(answer.json, place), str):
                self.values[name] = value
                self.own |= {value} if name.endswith(("Arn", "Id")) else set()
        for place, sentence in self.body_differences(text, expect, answer):
            self.differ(step, place, sentence)

    def send(self, step: dict, path: str, body) -> wire.Answer:
        """The path as it is recorded, ARNs with their colons; clients encode them
        (test_model.py)."""
        answer = wire.send(self.clients, step["method"], path, b"" if body is None else json.dumps(body).encode())
        answers.record(model.operations()[step["operation"]], answer.status, answer.headers, answer.body)
        return answer

    def until(self, step: dict, path: str, body) -> wire.Answer:
        """Polls until the member has the value, or one that will not change any more."""
        wanted, place = step["until"]["equals"], step["until"]["path"]
        seen, deadline = [], time.monotonic() + step["until"]["timeoutSec"]
        while True:
            answer = self.send(step, path, body)
            if (state := pick(answer.json, place)) not in seen:
                seen.append(state)
                since = time.monotonic()
            if state == wanted:
                break
            patience = deadline if state in IN_FLIGHT else since + SETTLED_SECONDS
            if time.monotonic() > patience:
                self.differ(step, "until", f"{place} becomes {wanted} in the recording, here it was {seen}")
                break
            time.sleep(0.2)
        if others := set(seen) - BEFORE.get(wanted, set()) - {wanted}:
            self.differ(step, "until", f"{place} was {sorted(map(str, others))} before {wanted}")
        return answer

    def recorded(self, step: dict) -> tuple[str | None, dict]:
        """Body as text (None if it was not recorded) and meta data."""
        file = DIRECTORY / "fixtures" / self.case["id"] / f"{step['name']}.json"
        meta = file.with_suffix(".meta.json")
        return file.read_text() if file.exists() else None, json.loads(meta.read_text()) if meta.exists() else {}

    def body_differences(self, text: str | None, expect: dict, answer: wire.Answer):
        if text is not None and not text.strip():
            if answer.body:
                yield "body", f"no body was recorded, got {answer.body[:100]!r}"
            return
        if text is not None:
            yield from compare(normal(json.loads(text)), normal(self.about_this_case(answer.json)), "")
        yield from compare(expect.get("bodyMatch", {}), answer.json, "", part=True)
        if shape := expect.get("itemShape"):
            items = pick(answer.json, shape["path"]) or []
            if len(items) < shape["minItems"]:
                yield shape["path"], f"at least {shape['minItems']} items are expected"
            for item in items:
                yield from compare({name: item.get(name) for name in shape["required"]}, item, shape["path"])

    def about_this_case(self, body):
        """Other tests have images and microVMs, too: lists without what is not about
        this case's."""
        def own(item: dict) -> bool:
            return not self.own or any(value in self.own for value in item.values() if isinstance(value, str))
        if isinstance(body, dict):
            return {name: list(filter(own, value)) if name in LISTS else value for name, value in body.items()}
        return body


def upload_code(clients, uri: str, data: bytes) -> None:
    """Puts an artifact where the recorded requests look for theirs."""
    place = urllib.parse.urlsplit(uri)
    clients.s3.create_bucket(Bucket=place.netloc)
    clients.s3.put_object(Bucket=place.netloc, Key=place.path.lstrip("/"), Body=data)

"""botocore's models of the two services, as installed: what they know, and one request per
constraint that breaks it.

Nothing of the models is kept here; `model_members.json` holds names only. After a look at what is
new: `python tests/e2e/model.py >tests/e2e/model_members.json`.
"""
import dataclasses
import functools
import json
import re
import typing
import urllib.parse

import botocore.loaders
import botocore.session

from harness import ACCOUNT, REGION

VERSIONS = {"lambda-microvms": "2025-09-09", "lambda-core": "2026-04-30"}

# Each pattern of the models is violated by one of these, at any length from 5 on.
BAD_TEXTS = ("bad: *%!", "\u20ac", "\x01")
MISSING = object()

# Valid values by member; those of other members follow from their shapes. They name nothing that
# exists, so that a request which is wrongly accepted does no harm; CreateMicrovmImage can make only
# MADE, whose code is nowhere.
MADE = "model-made"
IMAGE = f"arn:aws:lambda:{REGION}:{ACCOUNT}:microvm-image:model"
CONNECTOR = f"arn:aws:lambda:{REGION}:aws:network-connector:aws-network-connector:INTERNET_EGRESS"
GOOD = {
    "Identifier": "nc-model", "Name": "model", "OperatorRole": f"arn:aws:iam::{ACCOUNT}:role/operator",
    "Resource": IMAGE, "SecurityGroupIds": ["sg-1"], "SubnetIds": ["subnet-1"],
    "allowedPorts": [{"allPorts": {}}], "architecture": "X86_64",
    "baseImageArn": f"arn:aws:lambda:{REGION}:aws:microvm-image:al2023-1", "baseImageVersion": "1",
    "buildRoleArn": f"arn:aws:iam::{ACCOUNT}:role/build", "codeArtifact": {"uri": "s3://model-without-bucket/code.zip"},
    "egressNetworkConnectors": [CONNECTOR], "executionRoleArn": f"arn:aws:iam::{ACCOUNT}:role/execution",
    "imageIdentifier": IMAGE, "imageVersion": "1.0", "minimumMemoryInMiB": 512,
    "microvmIdentifier": "microvm-00000000-0000-0000-0000-000000000000", "name": MADE,
    "VersionId": "v1",
}


def load(service: str) -> botocore.model.ServiceModel:
    return botocore.session.Session().get_service_model(service, VERSIONS[service])


@functools.cache
def operations() -> dict[str, botocore.model.OperationModel]:
    """Of both services; no name is in both."""
    models = [load(service) for service in VERSIONS]
    return {name: model.operation_model(name) for model in models for name in model.operation_names}


# Names.

def names() -> dict[str, dict]:
    """By service: versions, operations, and the members of each structure."""
    return {service: names_of(load(service)) for service in VERSIONS}


def names_of(model: botocore.model.ServiceModel) -> dict:
    shapes = {name: model.shape_for(name) for name in model.shape_names}
    return {
        "versions": botocore.loaders.Loader().list_api_versions(model.service_name, "service-2"),
        "operations": list(model.operation_names),
        "members": {name: sorted(shape.members) for name, shape in sorted(shapes.items())
                    if shape.type_name == "structure" and shape.members},
    }


# Requests.

@dataclasses.dataclass(frozen=True)
class Violation:
    """An input that breaks one constraint, and what the refusal has to say."""

    path: str
    rule: str
    says: str
    input: dict[str, typing.Any]
    secret: bool = False

    @property
    def key(self) -> str:
        return f"{self.path} {self.rule}"


def request(operation: botocore.model.OperationModel, values: dict) -> tuple[str, str, bytes, dict[str, str]]:
    """Method, path, body and headers of a call with this input, valid or not."""
    path, query, headers, body = operation.http["requestUri"], [], {}, {}
    for name, value in values.items():
        serialization = operation.input_shape.members[name].serialization
        wire = serialization.get("name", name)
        match serialization.get("location"):
            case "uri":
                path = path.replace(f"{{{wire}}}", urllib.parse.quote(value, safe=""))
            case "querystring":
                query += [(wire, item) for item in (value if isinstance(value, list) else [value])]
            case "header":
                headers[wire] = str(value)
            case _:
                body[wire] = value
    path += "?" + urllib.parse.urlencode(query, quote_via=urllib.parse.quote) if query else ""
    return operation.http["method"], path, json.dumps(body).encode() if body else b"", headers


def good(shape: botocore.model.Shape, name: str = "") -> typing.Any:
    """A small valid value."""
    if name in GOOD:
        return GOOD[name]
    match shape.type_name:
        case "structure":
            wanted = list(shape.members)[:1] if is_union(shape) else shape.required_members
            return {member: good(shape.members[member], member) for member in wanted}
        case "list":
            return [good(shape.member)]
        case "map":
            return {"key": good(shape.value)}
        case "string":
            return shape.enum[0] if shape.enum else "x" * max(1, shape.metadata.get("min", 1))
        case "boolean":
            return True
        case _:
            return shape.metadata.get("min", 1)


def is_union(shape: botocore.model.Shape) -> bool:
    return bool(shape.metadata.get("union")) or getattr(shape, "is_tagged_union", False)


def violations(operation: botocore.model.OperationModel) -> list[Violation]:
    """One per constraint of the input, as far as it can be sent."""
    shape = operation.input_shape
    return [broken for broken in bad(shape) if can_be_sent(shape, broken)] if shape else []


def can_be_sent(shape: botocore.model.StructureShape, broken: Violation) -> bool:
    """A path without its label is another path, and a query knows no null."""
    member = re.split(r"[. ]", broken.path)[0]
    location = shape.members[member].serialization.get("location")
    value = broken.input.get(member, MISSING)
    return location is None or (value is not None and (location != "uri" or value not in ("", MISSING)))


def bad(shape: botocore.model.Shape, name: str = "") -> typing.Iterator[Violation]:
    """Values that break one constraint each (as `input`), with paths that begin at this shape."""
    match shape.type_name:
        case "structure":
            yield from bad_structure(shape)
        case "list":
            yield from bad_length(shape, good(shape, name), lambda items, count: items * count)
            for inner in bad(shape.member):
                yield dataclasses.replace(inner, path=f"1.member.{inner.path}".rstrip("."), input=[inner.input])
        case "map":
            yield from bad_length(shape, {}, lambda _, count: {f"key{n}": good(shape.value) for n in range(count)})
            for inner in bad(shape.key):
                yield dataclasses.replace(inner, path="key", input={inner.input: good(shape.value)})
            for inner in bad(shape.value):
                yield dataclasses.replace(inner, path="name", input={"name": inner.input})
        case "string":
            yield from bad_text(shape)
        case "integer" | "long":
            for rule, step, word in (("min", -1, "greater"), ("max", 1, "less")):
                if (limit := shape.metadata.get(rule)) is not None:
                    yield Violation("", rule, f"Member must have value {word} than or equal to {limit}", limit + step)


def bad_structure(shape: botocore.model.StructureShape) -> typing.Iterator[Violation]:
    union, whole = is_union(shape), good(shape)
    if union:
        says = f"Member must be a union with exactly one of [{', '.join(shape.members)}]"
        yield Violation("", "none of the union", says, {})
        if len(shape.members) > 1:
            two = {name: good(member, name) for name, member in list(shape.members.items())[:2]}
            yield Violation("", "two of the union", says, two)
    for name, member in shape.members.items():
        if name in shape.required_members:
            others = {other: value for other, value in whole.items() if other != name}
            yield Violation(name, "missing", "Member must not be null", others)
            yield Violation(name, "null", "Member must not be null", {**others, name: None})
        for inner in bad(member, name):
            path = f"{name}.{inner.path}".rstrip(".")
            yield dataclasses.replace(inner, path=path, input={**({} if union else whole), name: inner.input})


def bad_length(shape, unit, times) -> typing.Iterator[Violation]:
    minimum, maximum = shape.metadata.get("min", 0), shape.metadata.get("max")
    if minimum:
        says = f"Member must have length greater than or equal to {minimum}"
        yield Violation("", "min", says, times(unit, minimum - 1))
    if maximum is not None:
        yield Violation("", "max", f"Member must have length less than or equal to {maximum}", times(unit, maximum + 1))


def bad_text(shape: botocore.model.StringShape) -> typing.Iterator[Violation]:
    if shape.enum:
        yield Violation("", "enum", f"Member must satisfy enum value set: [{', '.join(shape.enum)}]", "NO_SUCH_VALUE")
        return
    found = list(bad_length(shape, "a", lambda unit, count: unit * count))
    if pattern := shape.metadata.get("pattern"):
        length = max(shape.metadata.get("min", 0), min(shape.metadata.get("max", 12), 12))
        texts = ((bad_text * length)[:length] for bad_text in BAD_TEXTS)
        text = next(text for text in texts if not re.fullmatch(in_python(pattern), text))
        found.append(Violation("", "pattern", f"Member must satisfy regular expression pattern: {pattern}", text))
    secret = bool(shape.metadata.get("sensitive"))
    yield from (dataclasses.replace(violation, secret=secret) for violation in found)


def in_python(pattern: str) -> str:
    r"""Python has no `\p`; these classes are near enough for telling that a bad text
    is none of them."""
    for theirs, ours in ((r"\p{L}", r"\w"), (r"\p{N}", r"\d"), (r"\p{Z}", r"\s"), (r"[^\p{C}]", r"[^%]")):
        pattern = pattern.replace(theirs, ours)
    return pattern


if __name__ == "__main__":
    print(json.dumps(names(), indent=1))

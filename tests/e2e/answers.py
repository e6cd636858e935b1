"""Every answer that a boto3 client of the tests gets is held against the output shape
of botocore's model.

The session fails at its end when one does not fit (conftest.py). `null` is fine where a member is
optional: the service sends it too.
"""
import collections
import datetime
import json

import model

# Members that the service sends (recorded exchanges) and the model does not know.
UNKNOWN_TO_THE_MODEL = {
    "buildPhaseOverrides", "id", "roleConfiguration", "terminationReasonCode", "versionStateTimeBucket",
}
# What any operation may answer, with its HTTP status, whether it declares it or not.
# Each has a message only.
COMMON_ERRORS = {
    "AccessDeniedException": 403, "IncompleteSignatureException": 403, "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403, "UnknownOperationException": 404, "UnrecognizedClientException": 403,
    "ValidationException": 400,
}
TYPES = {"string": str, "boolean": bool, "integer": int, "long": int, "float": (int, float), "double": (int, float),
         "structure": dict, "map": dict, "list": list}

# How many answers of each operation were looked at, and what was wrong with them.
seen: collections.Counter[str] = collections.Counter()
wrong: dict[str, None] = {}


def watch(client) -> None:
    """Looks at every answer that this boto3 client gets, if the service is one of the two."""
    service = client.meta.service_model
    if service.service_name in model.VERSIONS:
        def look(response_dict, event_name, **_):
            if response_dict:  # Otherwise the connection failed.
                name = event_name.rsplit(".", 1)[1]
                headers = {name.lower(): value for name, value in response_dict["headers"].items()}
                record(service.operation_model(name), response_dict["status_code"], headers, response_dict["body"])
        client.meta.events.register(f"response-received.{service.service_id.hyphenize()}", look)


def record(operation, status: int, headers: dict[str, str], body: bytes) -> None:
    seen[operation.name] += 1
    wrong.update((f"{operation.name}: {problem}", None) for problem in problems(operation, status, headers, body))


def problems(operation, status: int, headers: dict[str, str], body: bytes) -> list[str]:
    """What does not fit the model in an answer of this operation."""
    try:
        value = json.loads(body) if body else {}
    except ValueError:
        return [f"HTTP {status} with a body that is no JSON: {body[:200]!r}"]
    found = [] if headers.get("x-amzn-requestid") else ["no x-amzn-requestid"]
    if status < 300:
        expected = operation.http["responseCode"]
        found += [f"HTTP {status} instead of {expected}"] if status != expected else []
        return found + (misfits(operation.output_shape, value) if operation.output_shape else [])
    return found + error_problems(operation, status, headers.get("x-amzn-errortype", "").split(":")[0], value)


def error_problems(operation, status: int, kind: str, value) -> list[str]:
    declared = {shape.name: shape for shape in operation.error_shapes}
    if kind in declared:
        expected = declared[kind].metadata["error"]["httpStatusCode"]
        found = misfits(declared[kind], value, kind)
    elif kind in COMMON_ERRORS:
        expected = COMMON_ERRORS[kind]
        found = [] if set(value) == {"message"} else [f"{kind} has the members {sorted(value)}"]
    else:
        return [f"HTTP {status} with the error {kind!r}, which the operation does not declare"]
    return found + ([f"{kind} with HTTP {status} instead of {expected}"] if status != expected else [])


def misfits(shape, value, path: str = "") -> list[str]:
    """Where a JSON value is not of this shape: types, enumerations, unions, required
    and unknown members."""
    place = path or "the body"
    if shape.type_name == "timestamp":
        return [] if is_time(shape, value) else [f"{place} is {value!r}, no timestamp"]
    if not isinstance(value, TYPES[shape.type_name]) or isinstance(value, bool) != (shape.type_name == "boolean"):
        return [f"{place} is {value!r}, no {shape.type_name}"]
    match shape.type_name:
        case "structure":
            return misfits_of_structure(shape, value, path)
        case "list":
            return [found for item in value for found in misfits(shape.member, item, f"{path}[]")]
        case "map":
            return [found for key, item in value.items()
                    for found in (*misfits(shape.key, key, f"{path}.key"), *misfits(shape.value, item, f"{path}.*"))]
        case "string":
            return [f"{place} is {value!r}, none of {shape.enum}"] if shape.enum and value not in shape.enum else []
    return []


def misfits_of_structure(shape, value: dict, path: str) -> list[str]:
    found, known = [], {member.serialization.get("name", name): name for name, member in shape.members.items()}
    for wire, item in value.items():
        place = f"{path}.{wire}".lstrip(".")
        if wire in known:
            found += misfits(shape.members[known[wire]], item, place) if item is not None else []
        # Errors write `message` with and without a capital.
        elif wire.lower() != "message" and wire not in UNKNOWN_TO_THE_MODEL:
            found.append(f"{place} is unknown")
    for name in shape.required_members:
        wire = shape.members[name].serialization.get("name", name)
        if value.get(wire) is None and not shape.metadata.get("exception"):
            found.append(f"{path}.{wire}".lstrip(".") + " is missing")
    set_members = [wire for wire, item in value.items() if item is not None]
    if model.is_union(shape) and len(set_members) != 1:
        found.append(f"{path} is a union of {set_members}")
    return found


def is_time(shape, value) -> bool:
    """rest-json writes seconds since 1970 unless the model says otherwise."""
    if shape.serialization.get("timestampFormat") != "iso8601":
        return isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return datetime.datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False

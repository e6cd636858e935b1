"""IAM and STS: calls with any input through boto3, and XML answers held against
botocore's models."""
import dataclasses
import datetime
import re
import xml.etree.ElementTree

import botocore
import botocore.session
from botocore.exceptions import ClientError

# What was wrong with answers that a watched client got.
wrong: dict[str, None] = {}


@dataclasses.dataclass
class Answer:
    status: int
    error: str | None
    message: str


def call(client, name: str, values: dict) -> Answer:
    """Calls an operation without boto3's own checks; the client must not validate parameters."""
    try:
        answer = getattr(client, botocore.xform_name(name))(**values)
    except ClientError as error:
        answer, told = error.response, error.response["Error"]
        return Answer(answer["ResponseMetadata"]["HTTPStatusCode"], told["Code"], told.get("Message", ""))
    return Answer(answer["ResponseMetadata"]["HTTPStatusCode"], None, "")


def watch(client):
    """Looks at every answer that this client gets; returns the client."""
    service = client.meta.service_model

    def look(response_dict, event_name, **_):
        if response_dict:
            operation = service.operation_model(event_name.rsplit(".", 1)[1])
            found = problems(operation, response_dict["status_code"], response_dict["body"])
            wrong.update((f"{operation.name}: {problem}", None) for problem in found)
    client.meta.events.register(f"response-received.{service.service_id.hyphenize()}", look)
    return client


def problems(operation, status: int, body: bytes) -> list[str]:
    """What does not fit the model in an answer of this operation."""
    root = xml.etree.ElementTree.fromstring(re.sub(rb' xmlns="[^"]+"', b"", body, count=1))
    if status >= 300:
        expected = {"ErrorResponse", "Error", "Type", "Code", "Message", "RequestId"}
        found = {element.tag for element in root.iter()}
        declared = {shape.metadata["error"]["code"]: shape.metadata["error"]["httpStatusCode"]
                    for shape in operation.error_shapes if shape.metadata.get("error")}
        wanted = declared.get(root.findtext("Error/Code"), status)
        return [f"error document of {found}"] * (found != expected) + [f"HTTP {status}, not {wanted}"] * (status != wanted)
    found = [] if root.tag == f"{operation.name}Response" else [f"root {root.tag}"]
    if root.findtext("ResponseMetadata/RequestId") is None:
        found.append("no RequestId")
    if operation.output_shape is None:
        return found + [f"unexpected {child.tag}" for child in root if child.tag != "ResponseMetadata"]
    result = root.find(operation.output_shape.serialization["resultWrapper"])
    return found + (["no result"] if result is None else misfits(operation.output_shape, result))


def misfits(shape, element, path: str = "") -> list[str]:
    """Where an element is not of this shape: names, required members, enumerations, types."""
    text = element.text or ""
    match shape.type_name:
        case "structure":
            children = {child.tag: child for child in element}
            found = [f"{path}{tag} is unknown" for tag in children if tag not in shape.members]
            found += [f"{path}{name} is missing" for name in shape.required_members if name not in children]
            return found + [problem for tag, child in children.items() if tag in shape.members
                            for problem in misfits(shape.members[tag], child, f"{path}{tag}.")]
        case "list":
            found = [f"{path} has a {child.tag}" for child in element if child.tag != "member"]
            return found + [problem for child in element for problem in misfits(shape.member, child, path)]
        case "map":
            return [f"{path} has {[part.tag for part in child]}" for child in element
                    if [part.tag for part in child] != ["key", "value"]]
        case "timestamp":
            parsed = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
            return [] if parsed.year >= 1970 else [f"{path} is {text}"]
        case "boolean":
            return [] if text in ("true", "false") else [f"{path} is {text}"]
        case "integer":
            return [] if text.isdigit() else [f"{path} is {text}"]
    return [f"{path} is {text}, none of {shape.enum}"] if shape.enum and text not in shape.enum else []

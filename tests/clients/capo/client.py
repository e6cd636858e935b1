"""Calls what standard input says with capo-lambda-microvms; tests/e2e/drivers.py has
the form of the lines.

Where the server is and the keys are in the environment.
"""
import datetime
import json
import os
import re
import sys

from capo_lambda_microvms import LambdaMicrovmsClient
from capo_lambda_microvms.errors import ServiceError

# Their keys are the user's, or those of a union, which capo leaves as they are.
KEPT = {"tags", "environment_variables", "auth_token", "logging"}


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def renamed(value, rename):
    """A value with all names of members changed."""
    if isinstance(value, list):
        return [renamed(item, rename) for item in value]
    if isinstance(value, dict):
        return {rename(name): item if snake(name) in KEPT else renamed(item, rename) for name, item in value.items()}
    return value


def answer(client: LambdaMicrovmsClient, call: dict) -> dict:
    operation, values = snake(call["operation"]), renamed(call["input"], snake)
    try:
        if "page_size" in call:
            items = getattr(client, f"iter_{operation}")(max_results=call["page_size"], **values)
            return {"pages": [[renamed(item, camel) for item in items]]}
        return {"output": renamed(getattr(client, operation)(**values), camel)}
    except ServiceError as error:
        return {"error": {"type": type(error).__name__, "code": error.code, "status": error.response.status,
                          "message": error.message or ""}}


def main() -> None:
    client = LambdaMicrovmsClient(endpoint=os.environ["AWS_ENDPOINT_URL"], region=os.environ["AWS_REGION"],
                                  retry_max_attempts=1)
    for line in sys.stdin:
        text = json.dumps(answer(client, json.loads(line)), default=datetime.datetime.isoformat)
        print(text, flush=True)


if __name__ == "__main__":
    main()

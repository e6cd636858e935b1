"""What a refusal of a malformed request must say, and which operations the
documentation says are served."""
import re

import model
from harness import ROOT

PART = re.compile(
    r"Value(?: null| '.*')? at '(?P<path>[^']+)' failed to satisfy constraint: (?P<says>Member must .*)", re.DOTALL)


def documented(*sections: str) -> list[str]:
    """Operations in the tables of these sections of docs/api-compatibility.md, sorted."""
    text = (ROOT / "docs/api-compatibility.md").read_text()
    parts = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    rows = [row for section in sections
            for row in re.findall(r"^\| ([A-Z]\w+(?:, [A-Z]\w+)*) \| yes \|", parts[section], re.MULTILINE)]
    return sorted(name for row in rows for name in row.split(", "))


def refusal_problem(broken: model.Violation, answer, error: str = "ValidationException") -> str | None:
    """What is wrong with the answer to a request that breaks one constraint."""
    if (answer.status, answer.error) != (400, error):
        return f"not refused: {answer}"
    counted = re.fullmatch(r"(\d+) validation errors? detected: (.*)", answer.message, re.DOTALL)
    parts = [PART.fullmatch(part) for part in re.split(r"; (?=Value)", counted[2])] if counted else [None]
    if None in parts:
        return f"no sentence of Smithy's: {answer.message[:300]}"
    if int(counted[1]) != len(parts) or ("errors" in answer.message.split(":")[0]) != (len(parts) > 1):
        return f"counts wrong: {answer.message[:300]}"
    # A text of the wrong length may break a pattern as well, but nothing else may be found fault
    # with. Paths begin with a small letter where lambda-core's members do not.
    path = broken.path.lower()
    if any(part["path"].lower() != path for part in parts) or broken.says not in [part["says"] for part in parts]:
        return f"does not say that '{broken.path}' {broken.says}: {answer.message[:300]}"
    if broken.secret and not answer.message.split(": ", 1)[1].startswith("Value at"):
        return f"repeats a secret: {answer.message[:300]}"
    return None

"""Recorded exchanges with the live service, replayed: status, error class and body,
member by member.

Skipped where there are no recordings beside the checkout; what they taught stands in
test_service_facts.py as well.
"""
import concurrent.futures

import pytest

import recordings
from artifact import zipped
from harness import ROOT
from recordings_known import KNOWN

CASES = recordings.load()
EXAMPLE = ROOT / "examples/perl-counter"


needs_recordings = pytest.mark.skipif(not CASES, reason=f"no recorded exchanges in {recordings.DIRECTORY}")


@needs_recordings
def test_known_differences_are_of_recorded_steps():
    steps = {f"{name}/{step['name']}" for name, case in CASES.items() for step in case["steps"]}
    foreign = {key for key in KNOWN if "/".join(key.split("/")[:2]) not in steps}
    assert not foreign, f"recordings_known.py has steps that no case has: {sorted(foreign)}"


@pytest.fixture(scope="module")
def code(clients, small):
    """The artifact that all cases build: the smallest example, on a small base."""
    files = {name: (EXAMPLE / name).read_text() for name in ("Dockerfile", "app.pl")}
    data = zipped(files | {"Dockerfile": files["Dockerfile"].replace("debian:trixie-slim", "small:1")})
    case = next(case for case in CASES.values() if "codeArtifactUri" in case.get("params", {}))
    recordings.upload_code(clients, recordings.Replay(clients, case).values["codeArtifactUri"], data)


@pytest.fixture(scope="module")
def replays(clients, code):
    """What each case finds, in the end. They run at once, since they wait for builds
    most of the time."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(CASES))) as pool:
        yield {name: pool.submit(recordings.Replay(clients, case).run) for name, case in CASES.items()}


@needs_recordings
@pytest.mark.parametrize("name", CASES or ["all"])
def test_a_case_differs_only_where_it_is_known(replays, name):
    found = replays[name].result()
    known = {key for key in KNOWN if key.split("/")[0] == name}
    new = [f"{key}: {found[key]}" for key in found if key not in known]
    assert not new, "differences that recordings_known.py does not list:\n" + "\n".join(new)
    over = sorted(known - found.keys())
    assert not over, "differences that no longer occur; delete them from recordings_known.py:\n" + "\n".join(over)


def test_the_comparison_finds_differences():
    """Otherwise it could pass for nothing."""
    recorded = {"a": None, "b": [1, {"c": "TIMESTAMP"}], "imageArn": "arn:aws:lambda:REGION:ACCOUNT:microvm-image:x"}
    same = {"a": None, "b": [1, {"c": 17.5}], "imageArn": "arn:aws:lambda:us-east-1:000000000000:microvm-image:x"}
    assert not list(recordings.compare(recorded, recordings.normal(same), ""))
    for change, place in (({"a": 0}, "a"), ({"b": [1]}, "b"), ({"b": [1.0, {"c": 1}]}, "b.0"), ({"new": None}, "new"),
                          ({"b": [1, {"c": None}]}, "b.1.c"), ({"imageArn": "arn:x"}, "imageArn")):
        assert place in dict(recordings.compare(recorded, recordings.normal(same | change), ""))
    del same["a"]
    assert "a" in dict(recordings.compare(recorded, recordings.normal(same), ""))

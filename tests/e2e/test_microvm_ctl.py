"""microvm-ctl, somebody else's command line for MicroVMs, unmodified: its settings are
environment variables.

Its own examples need images of public registries; tests/clients/microvm-ctl/app takes their place.
"""
import re
import subprocess

import pytest

from drivers import INSTALLED, PROGRAMS
from endpoint import Clients, Microvm
from harness import ACCOUNT, REGION, wait_until

MVM = INSTALLED / "microvm-ctl/bin/mvm"
BUCKET = f"microvm-ctl-artifacts-{ACCOUNT}-{REGION}"
ID = re.compile(r"microvm-[0-9a-f-]{36}")


def command_line(clients: Clients, **settings: str):
    """Runs `mvm` against a server; what it prints."""
    assert MVM.exists(), f"{MVM} is missing: run `make clients`"
    # Endpoints are HTTPS by the server's own authority, and tables are as wide as COLUMNS.
    env = clients.env | {"REQUESTS_CA_BUNDLE": clients.env["HEARTH_CA_BUNDLE"], "COLUMNS": "200"} | settings

    def run(*arguments: str, timeout: float = 120) -> str:
        done = subprocess.run([MVM, *arguments], env=env, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, f"mvm {' '.join(arguments)}: {done.stdout[-1000:]}{done.stderr[-2000:]}"
        return done.stdout
    return run


@pytest.fixture(scope="module")
def mvm(clients):
    return command_line(clients)


@pytest.fixture
def launched(mvm, clients, image):
    """A microVM of the session's image that `mvm run --wait` has started."""
    printed = mvm("run", "probe", "--wait")
    identifier = ID.search(printed)[0]
    microvm = Microvm(clients, identifier, clients.microvms.get_microvm(microvmIdentifier=identifier)["endpoint"])
    assert "now RUNNING" in printed and microvm.endpoint in printed, printed
    yield microvm
    microvm.terminate(wait=False)


def test_run_and_call(mvm, launched):
    assert launched.state == "RUNNING"
    for count in ("1", "2"):
        status, body = mvm("call", launched.id, "/count").split("\n", 1)
        assert status.startswith("200 in ") and body.strip() == count
    # The probe on the other port runs what is sent.
    answer = mvm("call", launched.id, "/", "-X", "POST", "-d", "echo $((6 * 7))", "--port", "8081")
    assert answer.split("\n")[1] == "42"


def test_a_call_wakes(mvm, launched):
    mvm("call", launched.id, "/count")
    mvm("suspend", launched.id)
    launched.wait_state("SUSPENDED")
    assert mvm("call", launched.id, "/count").split("\n")[1] == "2"
    mvm("suspend", launched.id)
    launched.wait_state("SUSPENDED")
    mvm("resume", launched.id)
    launched.wait_state("RUNNING")


def test_lists(mvm, launched):
    assert launched.id in mvm("ls", "--image", "probe")
    assert launched.endpoint in mvm("get", launched.id)
    assert launched.id in mvm("top", "--image", "probe")
    assert re.search(r"probe\b.*CREATED.*1\.0", mvm("image", "ls"))
    assert re.search(r"1\.0\b.*SUCCESSFUL.*ACTIVE", mvm("image", "versions", "probe"))


def test_terminate(mvm, launched):
    mvm("terminate", launched.id)
    launched.wait_state("TERMINATED")
    assert launched.id not in mvm("ls", "--image", "probe")
    assert launched.id in mvm("ls", "--image", "probe", "--all")


def test_a_fleet(mvm, clients, image):
    clients.end_microvms(image)
    mvm("scale", "probe", "2", "--wait")
    assert "4 requests in" in mvm("dispatch", "probe", "/count", "-X", "GET", "-n", "4")
    assert "terminated 2 microVMs" in mvm("drain", "probe")


def test_logs(mvm, launched):
    launched.sh(f"echo printed by {launched.id} >/proc/1/fd/1")
    wait_until(lambda: f"printed by {launched.id}" in mvm("logs", "probe", "--minutes", "1"), 20, "mvm shows the line")
    assert "no events" in mvm("logs", "no-such-image")


def test_quotas(mvm):
    printed = mvm("quotas")
    assert re.search(r"RunMicrovm \(TPS\)\W+5\W+5\.0\b", printed), printed
    assert re.search(r"memory \(GB\)\W+1024\W+1024\.0\b", printed), printed


@pytest.fixture(scope="module")
def operator(servers_of_module):
    """Who has a server of their own. microvm-ctl builds for ARM_64 only; here the host's
    architecture stands for it."""
    return Clients(servers_of_module({"any_architecture": True}))


@pytest.fixture(scope="module")
def exported(operator) -> dict[str, str]:
    """What `mvm bootstrap` says is to be exported. It waits 8 seconds by itself for each
    role that it makes."""
    return dict(re.findall(r"export (MVM_\w+)=(\S+)", command_line(operator)("bootstrap")))


def test_bootstrap(operator, exported):
    role = f"arn:aws:iam::{ACCOUNT}:role/microvm-ctl-%s-role"
    assert exported == {"MVM_ARTIFACT_BUCKET": BUCKET, "MVM_BUILD_ROLE_ARN": role % "build",
                        "MVM_EXECUTION_ROLE_ARN": role % "execution"}
    iam = operator.boto("iam")
    for name in ("build", "execution"):
        found = iam.get_role(RoleName=f"microvm-ctl-{name}-role")["Role"]
        trusted = found["AssumeRolePolicyDocument"]["Statement"][0]
        assert trusted["Principal"] == {"Service": "lambda.amazonaws.com"}
        policy = iam.get_role_policy(RoleName=found["RoleName"], PolicyName=f"{found['RoleName']}-inline")
        read = [item["Resource"] for item in policy["PolicyDocument"]["Statement"] if item["Action"] == "s3:GetObject"]
        assert read == ([f"arn:aws:s3:::{BUCKET}/*"] if name == "build" else [])
    blocked = operator.s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    assert set(blocked.values()) == {True} and len(blocked) == 4
    # Everything is there already.
    assert "control plane bootstrapped" in command_line(operator)("bootstrap")


def test_image_build_and_run(operator, exported):
    mvm = command_line(operator, **exported)
    printed = mvm("image", "build", "mvm-app", str(PROGRAMS / "microvm-ctl/app"), "--memory", "512", timeout=600)
    assert "mvm-app:1.0" in printed and "memory snapshot:" in printed
    identifier = ID.search(mvm("run", "mvm-app", "--wait"))[0]
    called = mvm("call", identifier, "/execute", "-X", "POST", "-d", '{"code": "2 + 2"}')
    assert called.startswith("200 in ") and '"path": "/execute"' in called
    wait_until(lambda: "POST /execute" in mvm("logs", "mvm-app"), 20, "the app's output is in the log")
    mvm("drain", "mvm-app")
    operator.end_microvms(operator.image_arn("mvm-app"))

"""Bad input and broken parts: each ends with a sentence for the user, and nothing
else is harmed."""
import datetime
import json
import os
import signal
import subprocess
import uuid

import botocore.auth
import pytest
from botocore.exceptions import ClientError

import wire
from artifact import zipped
from harness import ACCOUNT, HEARTH, REGION


DOCKERFILE = "FROM debian:trixie-slim\nCMD [\"/bin/true\"]\n"
# What is uploaded (or nothing), and how the reason begins and what it names.
BAD_ARTIFACTS = {
    "not-a-zip": (lambda: b"PK this is no zip archive", "ARCHIVE_INVALID: ", "not a readable zip"),
    "no-dockerfile": (lambda: zipped({"app/Dockerfile": DOCKERFILE}), "ARCHIVE_DOCKERFILE_NOT_FOUND: ", "Dockerfile"),
    "escape": (lambda: zipped({"Dockerfile": DOCKERFILE, "../evil": "x"}), "ARCHIVE_INVALID: ", "../evil"),
    "below-link": (lambda: zipped({"Dockerfile": DOCKERFILE, "out/evil": "x"}, {"out": "/etc"}), "ARCHIVE_INVALID: ", '"out/evil"'),
    "bomb": (lambda: zipped({"Dockerfile": DOCKERFILE, "zeros": bytes(100 << 20)}), "ARCHIVE_INVALID: ", "unpack"),
    "syntax": (lambda: zipped({"Dockerfile": "FROM debian:trixie-slim\nRUNN true\n"}), "CONTAINER_BUILD_FAILED: ", 'line 2: there is no instruction "RUNN"'),
    "expanding": (lambda: zipped({"Dockerfile": "ARG A=0123456789\n" + "ARG A=$A$A$A$A\n" * 20 + "FROM debian:$A\n"}), "CONTAINER_BUILD_FAILED: ", "expand to more than"),
    "unknown-from": (lambda: zipped({"Dockerfile": "FROM nobody/nothing:1\n"}), "CONTAINER_BUILD_FAILED: ", "nobody/nothing:1"),
    "no-object": (None, "S3_NO_SUCH_KEY: ", "no-object.zip"),
}


@pytest.fixture(scope="module")
def bad_images(clients):
    """All of them at once: none gets as far as a build microVM."""
    clients.s3.create_bucket(Bucket="bad")
    images = {"no-bucket": clients.create_image("no-bucket", "s3://missing-bucket/code.zip")}
    for name, (data, _, _) in BAD_ARTIFACTS.items():
        if data:
            clients.s3.put_object(Bucket="bad", Key=f"{name}.zip", Body=data())
        images[name] = clients.create_image(name, f"s3://bad/{name}.zip")
    yield images
    for arn in images.values():
        clients.microvms.delete_microvm_image(imageIdentifier=arn)


@pytest.mark.parametrize("name", BAD_ARTIFACTS)
def test_a_bad_artifact(clients, bad_images, name):
    _, begins, names = BAD_ARTIFACTS[name]
    state, reason = clients.wait_built(bad_images[name], timeout=60)
    assert state == "CREATE_FAILED"
    assert reason.startswith(begins) and names in reason and reason.endswith("."), reason
    assert reason in clients.log_lines(f"/aws/lambda-microvms/{name}")


def test_a_missing_bucket(clients, bad_images):
    state, reason = clients.wait_built(bad_images["no-bucket"], timeout=60)
    assert (state, reason) == ("CREATE_FAILED", "S3_NO_SUCH_BUCKET: The bucket missing-bucket does not exist.")


def test_a_failed_image_runs_nothing(clients, bad_images):
    clients.wait_built(bad_images["not-a-zip"], timeout=60)
    with pytest.raises(clients.microvms.exceptions.ResourceNotFoundException, match="No active version found"):
        clients.run(bad_images["not-a-zip"])


def test_the_command_line_says_why_an_image_runs_nothing(clients, server, bad_images):
    """The service has one text for every reason."""
    clients.wait_built(bad_images["not-a-zip"], timeout=60)
    told = subprocess.run([HEARTH, "run", "not-a-zip"], env=server.env(), capture_output=True, text=True, timeout=60)
    assert told.returncode == 1, told
    assert "the build of version 1.0 failed: ARCHIVE_INVALID" in told.stderr, told.stderr
    absent = clients.image_arn("absent")
    told = subprocess.run([HEARTH, "run", absent], env=server.env(), capture_output=True, text=True, timeout=60)
    assert "there is no such image" in told.stderr, told.stderr


# The endpoint.

def refusal(answer) -> tuple:
    return answer.status, answer.headers.get("x-amzn-errortype") or answer.headers.get("x-aws-proxy-error"), answer.text


def test_tokens_that_open_nothing(shared, run):
    host = {"Host": shared.endpoint}
    assert refusal(shared.request(headers=host)) == (403, "UNAUTHORIZED", "Request missing authentication")
    assert shared.request(headers=host | {"X-aws-proxy-auth": "nonsense"}).text == "Request missing authentication"
    foreign = run(wait=False).token()
    assert refusal(shared.request(token=foreign)) == (403, "UNAUTHORIZED", "Token authentication failed")
    damaged = shared.token()
    damaged = damaged[:-4] + ("AAAA" if damaged[-4:] != "AAAA" else "BBBB")
    assert shared.request(token=damaged).text == "Token authentication failed"


def test_a_token_opens_its_ports_only(shared):
    token = shared.token({"port": 8080}, {"range": {"startPort": 9000, "endPort": 9010}})
    assert shared.request(token=token).status == 200
    assert refusal(shared.request(token=token, port=8081)) == (403, "UNAUTHORIZED", "Access to port denied")
    assert shared.request(token=token, port=9005).status == 502


def test_hosts_that_are_none(shared):
    other = type(shared)(shared.clients, "microvm-none", f"{uuid.uuid4()}.{shared.endpoint.split('.', 1)[1]}")
    assert refusal(other.request(headers=shared.headers() | {"Host": other.endpoint})) == (
        403, "UNAUTHORIZED", "Token authentication failed")
    # A host that is not the one of the TLS connection.
    assert shared.request(headers=shared.headers() | {"Host": other.endpoint}).status == 403


# The API.

def call(clients, method: str, path: str, body: bytes, secret: str | None = None) -> tuple[int, str, dict]:
    """A signed request with any body: status, error type and message."""
    answer = wire.send(clients, method, path, body, secret=secret)
    return answer.status, answer.error, answer.json


IMAGES, MICROVMS = "/2025-09-09/microvm-images", "/2025-09-09/microvms"


def test_a_wrong_signature(clients):
    status, kind, answer = call(clients, "POST", MICROVMS, b"{}", secret="wrong")
    assert (status, kind) == (403, "InvalidSignatureException"), answer
    with pytest.raises(ClientError) as refused:
        clients.boto("lambda-microvms", aws_access_key_id="AKIAUNKNOWN").list_microvms()
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize("minutes", [-20, 20])
def test_a_skewed_clock(clients, monkeypatch, minutes):
    now = botocore.auth.get_current_datetime
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *a, **k: now(*a, **k) + datetime.timedelta(minutes=minutes))
    status, kind, answer = call(clients, "POST", MICROVMS, b"{}")
    assert (status, kind) == (403, "InvalidSignatureException"), answer
    assert "Signature" in answer["message"]


@pytest.mark.parametrize("body, says", [
    (b"{not json", ""),
    (b"[]", "the body"),
    (b'{"imageIdentifier": 7}', "Value at 'imageIdentifier' failed to satisfy constraint: Member must be a string"),
    (b"{}", "Value null at 'imageIdentifier'"),
    (b'{"imageIdentifier": "probe"}', "Malformed ARN"),
    (b'{"imageIdentifier": "arn:aws:lambda:us-east-1:000000000000:microvm-image:x", "idlePolicy": {"maxIdleDurationSeconds": 0, "suspendedDurationSeconds": 0, '
     b'"autoResumeEnabled": true}}', "idlePolicy.maxIdleDurationSeconds"),
])
def test_a_bad_body(clients, body, says):
    status, kind, answer = call(clients, "POST", MICROVMS, body)
    assert (status, kind) == (400, "ValidationException"), answer
    assert says in (answer["message"] or ""), answer


def test_things_that_do_not_exist(clients):
    missing, errors = clients.image_arn("missing"), clients.microvms.exceptions
    with pytest.raises(errors.ResourceNotFoundException, match=f"No active version found for MicroVM image {missing}"):
        clients.run(missing)
    with pytest.raises(errors.ResourceNotFoundException, match="MicroVMImage not found"):
        clients.microvms.get_microvm_image(imageIdentifier=missing)
    with pytest.raises(errors.ResourceNotFoundException, match="MicroVM not found: microvm-none"):
        clients.microvms.get_microvm(microvmIdentifier="microvm-none")


@pytest.mark.parametrize("change, says", [
    ({"cpuConfigurations": [{"architecture": "ARM_64"}]}, "Architecture ARM_64 is not available"),
    ({"resources": [{"minimumMemoryInMiB": 700}]}, "Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192]"),
    ({"codeArtifact": {"uri": "http://x/y"}}, "CodeArtifact URI must be a valid S3 URI"),
    ({"baseImageArn": "arn:aws:lambda:us-east-1:aws:microvm-image:nothing"}, "nothing"),
    ({"environmentVariables": {"AWS_REGION": "x"}}, "reserved"),
])
def test_an_image_that_cannot_be(clients, change, says):
    if os.uname().machine == "aarch64" and "cpuConfigurations" in change:
        change, says = {"cpuConfigurations": [{"architecture": "X86_64"}]}, says.replace("ARM_64", "X86_64")
    body = {
        "name": "impossible", "codeArtifact": {"uri": "s3://b/k"}, "buildRoleArn": f"arn:aws:iam::{ACCOUNT}:role/build",
        "baseImageArn": f"arn:aws:lambda:{REGION}:aws:microvm-image:al2023-1"} | change
    status, _, answer = call(clients, "POST", IMAGES, json.dumps(body).encode())
    assert status in (400, 404) and says in answer["message"], answer


def test_an_image_in_use_cannot_be_deleted(clients, shared, image):
    with pytest.raises(clients.microvms.exceptions.ValidationException, match="running microvms"):
        clients.microvms.delete_microvm_image(imageIdentifier=image)
    with pytest.raises(clients.microvms.exceptions.ValidationException, match="already exists"):
        clients.create_image("probe", "s3://code/probe.zip")


# Broken parts.

def test_a_killed_vmm(run):
    microvm, other = run(), run()
    assert (microvm.count(), other.count()) == (1, 1)
    os.kill(microvm.vmm(), signal.SIGKILL)
    microvm.wait_state("TERMINATED")
    reason = microvm.get()["stateReason"]
    assert "virtual machine monitor ended unexpectedly" in reason, reason
    assert microvm.request("/count").status == 502
    assert other.count() == 2


def test_an_app_that_exits(run):
    microvm = run()
    microvm.request("/exit?code=3")
    microvm.wait_state("TERMINATED")
    assert microvm.get()["stateReason"] == "Container Stopped with Exit Code: 3"


def test_an_app_without_memory(run):
    """The guest's kernel ends the app's first process, and with it the microVM."""
    microvm = run()
    # The kernel is to choose the first process. The request gets no answer; a busy host may take
    # minutes to fill the memory.
    microvm.request("/", "POST", b"echo 1000 >/proc/1/oom_score_adj; exec tail /dev/zero", port=8081, timeout=240)
    microvm.wait_state("TERMINATED", timeout=60)
    assert microvm.get()["stateReason"] == "Container Stopped with Exit Code: 137"
    assert microvm.vmm() is None


def test_changes_after_the_end_are_refused(clients, run):
    microvm = run(wait=False)
    microvm.terminate()
    microvm.terminate()
    for change in (clients.microvms.suspend_microvm, clients.microvms.resume_microvm):
        with pytest.raises(clients.microvms.exceptions.ValidationException, match="has been terminated"):
            change(microvmIdentifier=microvm.id)

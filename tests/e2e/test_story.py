"""The main job: from a zip to a microVM that answers, sleeps and wakes, with the unmodified
AWS CLI and boto3."""
import re

import pytest

import images
from artifact import zipped
from endpoint import Microvm
from harness import ACCOUNT, REGION, wait_until


@pytest.fixture(scope="module")
def made(clients, base):
    """ARN of an image of the code that most tests use, built here and as the README tells: with the
    unmodified AWS CLI."""
    (base / "made.zip").write_bytes(zipped(images.probe()))
    clients.aws("s3", "mb", "s3://made", parse=False)
    clients.aws("s3", "cp", str(base / "made.zip"), "s3://made/code.zip", parse=False)
    shown = clients.aws(
        "lambda-microvms", "create-microvm-image", "--name", "made", "--code-artifact", "uri=s3://made/code.zip",
        "--base-image-arn", f"arn:aws:lambda:{REGION}:aws:microvm-image:al2023-1",
        "--build-role-arn", f"arn:aws:iam::{ACCOUNT}:role/build", "--resources", "minimumMemoryInMiB=512",
        "--environment-variables", "PROBE_VERSION_ENV=from the version")
    assert shown["state"] == "CREATING"
    assert clients.wait_built(shown["imageArn"]) == ("CREATED", None)
    return shown["imageArn"]


@pytest.fixture(scope="module")
def microvm_of_made(clients, made):
    microvm = clients.run(made)
    yield microvm
    microvm.terminate(wait=False)


def lambda_microvms(clients, operation: str, *arguments: str):
    return clients.aws("lambda-microvms", operation, *arguments)


def test_the_story_with_the_aws_cli(clients, image):
    policy = "maxIdleDurationSeconds=600,suspendedDurationSeconds=600,autoResumeEnabled=true"
    ran = lambda_microvms(clients, "run-microvm", "--image-identifier", image, "--idle-policy", policy)
    assert ran["state"] == "PENDING"
    identifier = ran["microvmId"]
    token = lambda_microvms(clients, "create-microvm-auth-token", "--microvm-identifier", identifier,
                            "--expiration-in-minutes", "5", "--allowed-ports", "port=8080")["authToken"]
    microvm = Microvm(clients, identifier, ran["endpoint"])
    headers = {**token, "Host": ran["endpoint"]}
    assert [microvm.request("/count", headers=headers).text for _ in range(3)] == ["1\n", "2\n", "3\n"]
    assert microvm.request("/file", "PUT", b"kept on disk", headers=headers).status in (200, 201, 204)
    vmm = microvm.vmm()
    assert vmm is not None

    lambda_microvms(clients, "suspend-microvm", "--microvm-identifier", identifier)
    microvm.wait_state("SUSPENDED")
    assert microvm.vmm() is None
    shown = lambda_microvms(clients, "get-microvm", "--microvm-identifier", identifier)
    assert shown["state"] == "SUSPENDED" and shown["endpoint"] == ran["endpoint"]

    assert microvm.request("/count", headers=headers).text == "4\n"
    assert microvm.request("/file", headers=headers).text == "kept on disk"
    assert microvm.state == "RUNNING"
    assert microvm.vmm() not in (None, vmm)

    lambda_microvms(clients, "terminate-microvm", "--microvm-identifier", identifier)
    microvm.wait_state("TERMINATED")
    wait_until(lambda: microvm.vmm() is None, 10, "the VMM is gone")
    assert microvm.request("/count", headers=headers).status == 502
    record = microvm.get()
    assert record["stateReason"] == "Success." and record["terminatedAt"] >= record["startedAt"]
    listed = lambda_microvms(clients, "list-microvms")["items"]
    assert {"microvmId": identifier, "state": "TERMINATED"}.items() <= next(
        item for item in listed if item["microvmId"] == identifier).items()


def test_s3_with_the_aws_cli(clients, base):
    file = base / "hello.txt"
    file.write_text("hello")
    s3 = lambda *arguments: clients.aws("s3", *arguments, parse=False)  # noqa: E731
    s3("mb", "s3://cli-bucket")
    s3("cp", str(file), "s3://cli-bucket/dir/hello.txt")
    assert re.search(r"\s5 hello.txt$", s3("ls", "s3://cli-bucket/dir/"), re.MULTILINE)
    assert s3("cp", "s3://cli-bucket/dir/hello.txt", "-") == "hello"
    s3("rm", "s3://cli-bucket/dir/hello.txt")
    assert clients.s3.list_objects_v2(Bucket="cli-bucket")["KeyCount"] == 0
    s3("rb", "s3://cli-bucket")
    assert "cli-bucket" not in s3("ls")


def test_the_image_and_its_build_can_be_read(clients, made):
    microvms = clients.microvms
    shown = microvms.get_microvm_image(imageIdentifier=made)
    assert (shown["state"], shown["latestActiveImageVersion"]) == ("CREATED", "1.0")
    assert made in [item["imageArn"] for item in microvms.list_microvm_images()["items"]]
    version = microvms.get_microvm_image_version(imageIdentifier=made, imageVersion="1.0")
    assert (version["state"], version["status"]) == ("SUCCESSFUL", "ACTIVE")
    build = microvms.list_microvm_image_builds(imageIdentifier=made, imageVersion="1.0")["items"][0]
    build = microvms.get_microvm_image_build(imageIdentifier=made, imageVersion="1.0", buildId=build["buildId"])
    assert build["buildState"] == "SUCCESSFUL"
    sizes = build["snapshotBuild"]
    for name in ("memorySnapshotSizeInBytes", "codeInstallSizeInBytes", "diskSnapshotSizeInBytes"):
        assert sizes[name] > 0, sizes
    # A real snapshot of a guest that runs perl, and less than its RAM.
    assert 20 << 20 < sizes["memorySnapshotSizeInBytes"] < 1 << 30
    managed = microvms.list_managed_microvm_images()["items"]
    assert any(item["imageArn"].endswith(":al2023-1") for item in managed)


def test_build_and_app_output_are_in_the_logs(clients, microvm_of_made):
    group = "/aws/lambda-microvms/made"
    build = clients.log_lines(group, "build-")
    assert "build says 42" in build
    steps = [line for line in build if line.startswith("STEP ")]
    assert any("FROM debian:trixie-slim" in line for line in steps) and len(steps) >= 7, steps
    assert "started with: argument of CMD" in clients.log_lines(group, "snapshot-")
    events = clients.aws("logs", "filter-log-events", "--log-group-name", group)["events"]
    assert "build says 42" in [event["message"] for event in events]
    microvm_of_made.sh("echo spoken by a microVM >/proc/1/fd/1")
    wait_until(lambda: "spoken by a microVM" in clients.log_lines(group, microvm_of_made.id), 10, "output is in the log")


def test_the_hosts_certificates_are_trusted_in_run_lines_only(microvm_of_made):
    """The image was built with a CA bundle, and printed its build's environment into a file."""
    during, env = microvm_of_made.sh("cat /build-env"), microvm_of_made.request("/env").text
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS"):
        assert f"{name}=/run/hearth-ca.crt" in during
        assert name not in env
    # Its last line is the size of the bundle as RUN saw it.
    assert int(during.splitlines()[-1]) > 1000
    assert microvm_of_made.sh("ls /run/hearth-ca.crt 2>&1; echo status $?").endswith("status 2")


def test_suspend_and_resume_by_calls(clients, run):
    microvm = run()
    assert microvm.count() == 1
    microvm.suspend()
    clients.microvms.suspend_microvm(microvmIdentifier=microvm.id)  # Twice is no error.
    clients.microvms.resume_microvm(microvmIdentifier=microvm.id)
    microvm.wait_state("RUNNING")
    clients.microvms.resume_microvm(microvmIdentifier=microvm.id)
    assert microvm.count() == 2
    listed = clients.microvms.list_microvms(imageIdentifier=microvm.get()["imageArn"])["items"]
    assert microvm.id in [item["microvmId"] for item in listed if item["state"] == "RUNNING"]


def test_memory_survives_many_suspends(run):
    microvm = run()
    microvm.request("/touch?mib=16")
    secret = microvm.sh("head -c 65536 /dev/urandom >/dev/shm/secret && sha256sum /dev/shm/secret")
    for round_number in range(1, 6):
        assert microvm.count() == round_number
        microvm.suspend()
    assert microvm.sh("sha256sum /dev/shm/secret") == secret
    assert microvm.request("/touch?mib=1").text == "17\n"


def test_microvms_are_separate(run):
    microvms = [run(wait=False) for _ in range(3)]
    for number, microvm in enumerate(microvms, 1):
        assert [microvm.count() for _ in range(number)] == list(range(1, number + 1))
        microvm.request("/file", "PUT", f"file {number}".encode())
    for number, microvm in enumerate(microvms, 1):
        assert microvm.request("/file").text == f"file {number}"


def test_a_repeated_client_token_starts_one_microvm(clients, image, run):
    first = run(clientToken="once", wait=False)
    second = clients.run(image, clientToken="once", wait=False)
    assert second.id == first.id

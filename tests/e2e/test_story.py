"""The main job: from a zip to a microVM that answers, sleeps and wakes, with the unmodified
AWS CLI and boto3."""
import re

from endpoint import Microvm
from harness import wait_until


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


def test_the_image_and_its_build_can_be_read(clients, image):
    microvms = clients.microvms
    shown = microvms.get_microvm_image(imageIdentifier=image)
    assert (shown["state"], shown["latestActiveImageVersion"]) == ("CREATED", "1.0")
    assert image in [item["imageArn"] for item in microvms.list_microvm_images()["items"]]
    version = microvms.get_microvm_image_version(imageIdentifier=image, imageVersion="1.0")
    assert (version["state"], version["status"]) == ("SUCCESSFUL", "ACTIVE")
    build = microvms.list_microvm_image_builds(imageIdentifier=image, imageVersion="1.0")["items"][0]
    build = microvms.get_microvm_image_build(imageIdentifier=image, imageVersion="1.0", buildId=build["buildId"])
    assert build["buildState"] == "SUCCESSFUL"
    sizes = build["snapshotBuild"]
    for name in ("memorySnapshotSizeInBytes", "codeInstallSizeInBytes", "diskSnapshotSizeInBytes"):
        assert sizes[name] > 0, sizes
    # A real snapshot of a guest that runs perl, and less than its RAM.
    assert 20 << 20 < sizes["memorySnapshotSizeInBytes"] < 1 << 30
    managed = microvms.list_managed_microvm_images()["items"]
    assert any(item["imageArn"].endswith(":al2023-1") for item in managed)


def test_build_and_app_output_are_in_the_logs(clients, image, shared):
    group = "/aws/lambda-microvms/probe"
    build = clients.log_lines(group, "build-")
    assert "build says 42" in build
    steps = [line for line in build if line.startswith("STEP ")]
    assert any("FROM debian:trixie-slim" in line for line in steps) and len(steps) >= 7, steps
    assert "started with: argument of CMD" in clients.log_lines(group, "snapshot-")
    events = clients.aws("logs", "filter-log-events", "--log-group-name", group)["events"]
    assert "build says 42" in [event["message"] for event in events]
    shared.sh("echo spoken by a microVM >/proc/1/fd/1")
    wait_until(lambda: "spoken by a microVM" in clients.log_lines(group, shared.id), 10, "output is in the log")


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

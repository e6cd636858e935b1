"""What recorded exchanges with the live service taught, as far as no crate's test has it: status,
error class, members, texts.

Members that are null on the service are null here, not absent; others must not be there at all.
"""
import json
from urllib.parse import quote

import pytest

import wire
from harness import ACCOUNT, REGION, wait_until

MICROVMS, IMAGES, MANAGED = "/2025-09-09/microvms", "/2025-09-09/microvm-images", "/2025-09-09/managed-microvm-images"
CONNECTORS = "/2026-04-04/network-connectors"
MANAGED_IMAGE = f"arn:aws:lambda:{REGION}:aws:microvm-image:al2023-1"
MANAGED_CONNECTOR = f"arn:aws:lambda:{REGION}:aws:network-connector:aws-network-connector"
NOWHERE = f"arn:aws:lambda:{REGION}:{ACCOUNT}:microvm-image:is-nowhere"

IMAGE_SUMMARY = {"createdAt", "id", "imageArn", "latestActiveImageVersion", "latestFailedImageVersion", "name", "state"}
VERSION = {
    "additionalOsCapabilities", "baseImageArn", "baseImageVersion", "buildRoleArn", "codeArtifact", "cpuConfigurations",
    "createdAt", "description", "egressNetworkConnectors", "environmentVariables", "hooks", "imageArn", "imageVersion",
    "kmsKeyIdentifier", "logging", "resources", "state", "stateReason", "status", "tags", "updatedAt", "versionStateTimeBucket",
}
BUILD_SUMMARY = {
    "architecture", "buildId", "buildState", "chipset", "chipsetGeneration", "createdAt", "imageArn", "imageVersion",
    "stateReason", "terminationReasonCode",
}
SIZES = {"codeInstallSizeInBytes", "diskSnapshotSizeInBytes", "memorySnapshotSizeInBytes"}
MICROVM = {
    "egressNetworkConnectors", "endpoint", "executionRoleArn", "idlePolicy", "imageArn", "imageVersion",
    "ingressNetworkConnectors", "kmsKeyIdentifier", "maximumDurationInSeconds", "microvmId", "startedAt", "state",
    "stateReason", "terminatedAt", "terminationReasonCode",
}
CONNECTOR = {"Arn", "Configuration", "Id", "Name", "OperatorRole", "State"}
# Members that the model has, and the recordings, which are older, have not.
CONNECTOR_VERSIONS = {"Version", "VersionArn", "LatestVersion", "LatestVersionArn"}


def call(clients, method: str, path: str, body=None, status: int = 200):
    answer = wire.send(clients, method, path, b"" if body is None else json.dumps(body).encode())
    assert answer.status == status, answer
    return answer.json


def nulls(body: dict) -> set[str]:
    return {name for name, value in body.items() if value is None}


def test_members_of_images_versions_and_builds(clients, image):
    one = call(clients, "GET", f"{IMAGES}/{image}")
    assert one.keys() == IMAGE_SUMMARY | {"tags", "updatedAt"} and one["state"] == "CREATED", one
    listed = call(clients, "GET", f"{IMAGES}?nameFilter={one['name']}")
    assert listed.keys() == {"items", "nextToken"} and listed["nextToken"] is None
    assert all(item.keys() == IMAGE_SUMMARY for item in listed["items"])

    version = call(clients, "GET", f"{IMAGES}/{image}/versions/1.0")
    assert version.keys() == VERSION
    assert {"stateReason", "tags", "kmsKeyIdentifier"} <= nulls(version)
    assert (version["baseImageVersion"], version["state"], version["status"]) == ("1.0", "SUCCESSFUL", "ACTIVE")
    assert version["versionStateTimeBucket"].startswith("SUCCESSFUL#")
    versions = call(clients, "GET", f"{IMAGES}/{image}/versions")
    assert version["environmentVariables"] and versions["items"] == [version | {"environmentVariables": None}]

    builds = call(clients, "GET", f"{IMAGES}/{image}/versions/1.0/builds")["items"]
    assert all(build.keys() == BUILD_SUMMARY for build in builds)
    assert nulls(builds[0]) == {"stateReason", "terminationReasonCode"}
    build = call(clients, "GET", f"{IMAGES}/{image}/versions/1.0/builds/{builds[0]['buildId']}")
    assert build.keys() == BUILD_SUMMARY | {"snapshotBuild"} and build["snapshotBuild"].keys() == SIZES
    assert all(size > 0 for size in build["snapshotBuild"].values())


def test_members_of_managed_images(clients):
    images = call(clients, "GET", MANAGED)
    assert images["nextToken"] is None
    assert [image.keys() for image in images["items"]] == [{"createdAt", "imageArn", "updatedAt"}]
    assert images["items"][0]["imageArn"] == MANAGED_IMAGE
    versions = call(clients, "GET", f"{MANAGED}/{MANAGED_IMAGE}/versions")["items"]
    assert [(version["imageVersion"], version["status"]) for version in versions] == [("1", "AVAILABLE"), ("0", "AVAILABLE")]


def test_members_of_a_microvm_from_pending_to_terminated(clients, image):
    started = call(clients, "POST", MICROVMS, {"imageIdentifier": image})
    path = f"{MICROVMS}/{started['microvmId']}"
    try:
        assert started.keys() == MICROVM and started["state"] == "PENDING"
        assert nulls(started) == {
            "executionRoleArn", "idlePolicy", "kmsKeyIdentifier", "stateReason", "terminatedAt", "terminationReasonCode"}
        assert started["maximumDurationInSeconds"] == 28_800
        assert started["egressNetworkConnectors"] == [f"{MANAGED_CONNECTOR}:INTERNET_EGRESS"]
        assert started["ingressNetworkConnectors"] == [f"{MANAGED_CONNECTOR}:HTTP_INGRESS"]
        items = call(clients, "GET", f"{MICROVMS}?imageIdentifier={quote(image, safe='')}")["items"]
        assert {tuple(sorted(item)) for item in items} == {("imageArn", "imageVersion", "microvmId", "startedAt", "state")}

        token = call(clients, "POST", f"{path}/auth-token", {"expirationInMinutes": 60, "allowedPorts": [{"allPorts": {}}]})
        assert list(token) == ["authToken"] and list(token["authToken"]) == ["X-aws-proxy-auth"]
        refused = wire.send(clients, "POST", f"{path}/shell-auth-token", b'{"expirationInMinutes": 60}')
        assert (refused.status, refused.error) == (400, "ValidationException")
        assert refused.message == "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM."
    finally:
        ended = wire.send(clients, "DELETE", path)
    assert (ended.status, ended.json) == (200, {})
    clients.end_microvms(image)
    last = call(clients, "GET", path)
    assert last.keys() == MICROVM and (last["state"], last["stateReason"]) == ("TERMINATED", "Success.")
    assert last["terminatedAt"] is not None


def test_statuses_and_members_of_connectors(clients):
    configuration = {"VpcEgressConfiguration": {
        "SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"], "NetworkProtocol": "IPv4",
        "AssociatedComputeResourceTypes": ["MicroVm"]}}
    role = f"arn:aws:iam::{ACCOUNT}:role/operator"
    wanted = {"Name": "facts", "Configuration": configuration, "OperatorRole": role, "ClientToken": "facts"}
    made = call(clients, "POST", CONNECTORS, wanted, 202)
    path = f"{CONNECTORS}/{made['Id']}"
    try:
        assert made.keys() - CONNECTOR_VERSIONS == CONNECTOR and made["State"] == "PENDING"
        wait_until(lambda: call(clients, "GET", path)["State"] == "ACTIVE", 30, "the connector is active")
        active = call(clients, "GET", path)
        assert active.keys() - CONNECTOR_VERSIONS == CONNECTOR | {"LastModified", "StateReason"}
        assert active["StateReason"] == "Initial creation"
        same = call(clients, "PUT", path, {"Configuration": configuration}, 202)
        assert (same["LastUpdateStatus"], same["LastUpdateStatusReason"]) == (
            "Successful", "No configuration changes detected")
        listed = next(item for item in call(clients, "GET", CONNECTORS)["NetworkConnectors"] if item["Id"] == made["Id"])
        assert listed.keys() - CONNECTOR_VERSIONS == {"Arn", "Id", "LastModified", "Name", "State", "Type"}
    finally:
        deleted = call(clients, "DELETE", path, status=202)
    assert deleted.keys() - CONNECTOR_VERSIONS == CONNECTOR and deleted["State"] == "DELETING"


NOT_FOUND = {
    f"GET {MICROVMS}/microvm-00000000-0000-0000-0000-000000000000":
        "MicroVM not found: microvm-00000000-0000-0000-0000-000000000000",
    f"GET {IMAGES}/{NOWHERE}": f"MicroVMImage not found for MicroVMImageID: {NOWHERE}",
    f"GET {IMAGES}/{NOWHERE}/versions/1.0": f"MicroVMImage not found for MicroVMImage: {NOWHERE}, Version: 1.0",
    f"POST {MICROVMS}": f"No active version found for MicroVM image {NOWHERE}",
}


@pytest.mark.parametrize("request_line", NOT_FOUND)
def test_what_is_not_found_is_said_in_the_service_s_words(clients, request_line):
    method, path = request_line.split()
    body = json.dumps({"imageIdentifier": NOWHERE}).encode() if method == "POST" else b""
    answer = wire.send(clients, method, path, body)
    assert (answer.status, answer.error) == (404, "ResourceNotFoundException"), answer
    assert answer.json == {"message": NOT_FOUND[request_line], "resourceId": None, "resourceType": None}


def test_a_connector_that_is_not_found_is_said_in_lambda_core_s_words(clients):
    answer = wire.send(clients, "GET", f"{CONNECTORS}/nc-is-nowhere")
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:network-connector:nc-is-nowhere"
    assert (answer.status, answer.error) == (404, "ResourceNotFoundException"), answer
    assert answer.json["Message"] == f"Network connector not found for: {arn}"

"""What every client does: each operation, each paginator, each error that can be provoked.

Only the driver's client calls what is tested; waiting is done by boto3, so that no time
depends on the client.
"""
import contextlib

import pytest

from drivers import Driver, Refused
from endpoint import Clients, Microvm
from harness import ACCOUNT, REGION, wait_until

BASE = f"arn:aws:lambda:{REGION}:aws:microvm-image:al2023-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/build"
# No build gets beyond fetching it.
CODE = {"codeArtifact": {"uri": "s3://no-such-bucket/code.zip"}, "buildRoleArn": ROLE, "baseImageArn": BASE}
POLICY = {"maxIdleDurationSeconds": 600, "suspendedDurationSeconds": 600, "autoResumeEnabled": True}
NO_MICROVM = "microvm-00000000-0000-0000-0000-000000000000"


@contextlib.contextmanager
def refused(driver: Driver, code: str, *, modelled: bool = True):
    """The call in it is refused with this error, which the client shows as an
    exception of that name."""
    with pytest.raises(Refused) as caught:
        yield
    error = caught.value
    assert error.code == code, error
    expected = code if modelled or driver.unmodelled is None else driver.unmodelled
    assert error.type == expected, error
    assert error.message, error


def managed_images(driver: Driver) -> None:
    images = driver.pages("ListManagedMicrovmImages", 1)
    assert BASE in [item["imageArn"] for page in images for item in page]
    versions = driver.pages("ListManagedMicrovmImageVersions", 1, imageIdentifier=BASE)
    check_pages(driver, versions, "imageVersion", ["1", "0"])


def check_pages(driver: Driver, pages: list[list[dict]], member: str, expected: list) -> None:
    """These items in this order, one on each page."""
    assert [item[member] for page in pages for item in page] == expected
    assert not driver.tells_pages or [len(page) for page in pages if page] == [1] * len(expected)


def images(driver: Driver, clients: Clients) -> None:
    """The life of an image whose builds fail at once."""
    name = f"client-{type(driver).__name__.lower()}"
    wanted = dict(
        name=name, description="made by a client", resources=[{"minimumMemoryInMiB": 512}],
        environmentVariables={"A_name": "a value"}, tags={"aTag": "1"},
        hooks={"port": 9000, "microvmImageHooks": {"ready": "ENABLED", "readyTimeoutInSeconds": 30}}, **CODE)
    made = driver.call("CreateMicrovmImage", **wanted)
    arn, image = made["imageArn"], {"imageIdentifier": made["imageArn"]}
    assert (arn, made["state"], made["imageVersion"]) == (clients.image_arn(name), "CREATING", "1.0")
    assert clients.wait_built(arn)[0] == "CREATE_FAILED"
    shown = driver.call("GetMicrovmImage", **image)
    assert (shown["name"], shown["state"], shown["tags"]) == (name, "CREATE_FAILED", {"aTag": "1"})
    with refused(driver, "ValidationException"):
        driver.call("CreateMicrovmImage", **wanted)

    updated = driver.call("UpdateMicrovmImage", **image, **CODE)
    assert (updated["state"], updated["imageVersion"]) == ("UPDATING", "2.0")
    assert clients.wait_built(arn)[0] == "UPDATE_FAILED"
    versions(driver, image)
    tags(driver, arn)
    listed = driver.pages("ListMicrovmImages", 1)
    everything = clients.microvms.list_microvm_images()["items"]
    check_pages(driver, listed, "imageArn", [item["imageArn"] for item in everything])
    assert len([item for page in listed for item in page]) >= 2

    assert driver.call("DeleteMicrovmImageVersion", **image, imageVersion="1.0")["state"] == "DELETING"
    wait_until(lambda: clients.image_state(arn) != "UPDATING", 30, "version 1.0 is deleted")
    with refused(driver, "ValidationException"):
        driver.call("DeleteMicrovmImageVersion", **image, imageVersion="2.0")
    assert driver.call("DeleteMicrovmImage", **image)["state"] == "DELETING"
    wait_until(lambda: clients.image_state(arn) is None, 30, f"{arn} is deleted")
    with refused(driver, "ResourceNotFoundException"):
        driver.call("GetMicrovmImage", **image)


def versions(driver: Driver, image: dict) -> None:
    check_pages(driver, driver.pages("ListMicrovmImageVersions", 1, **image), "imageVersion", ["2.0", "1.0"])
    first = image | {"imageVersion": "1.0"}
    shown = driver.call("GetMicrovmImageVersion", **first)
    assert (shown["state"], shown["description"]) == ("FAILED", "made by a client")
    assert (shown["environmentVariables"], shown["hooks"]["port"]) == ({"A_name": "a value"}, 9000)
    assert driver.call("UpdateMicrovmImageVersion", **first, status="INACTIVE")["status"] == "INACTIVE"
    builds = [build for page in driver.pages("ListMicrovmImageBuilds", 1, **first) for build in page]
    assert len(builds) == 1
    build = driver.call("GetMicrovmImageBuild", **first, buildId=builds[0]["buildId"])
    assert build["buildState"] == "FAILED" and build["stateReason"].startswith("S3_NO_SUCH_BUCKET"), build


def tags(driver: Driver, arn: str) -> None:
    driver.call("TagResource", Resource=arn, Tags={"bTag": "ä b", "aTag": "2"})
    assert tags_of(driver, arn) == {"aTag": "2", "bTag": "ä b"}
    driver.call("UntagResource", Resource=arn, TagKeys=["aTag", "none"])
    assert tags_of(driver, arn) == {"bTag": "ä b"}


def tags_of(driver: Driver, arn: str) -> dict:
    output = driver.call("ListTags", Resource=arn)
    # The model has a capital here; not every client keeps it.
    return output.get("Tags") or output["tags"]


def microvms(driver: Driver, clients: Clients, image: str) -> None:
    """The life of a microVM, and a request through its endpoint with the client's token."""
    ingress = [f"arn:aws:lambda:{REGION}:aws:network-connector:aws-network-connector:{name}_INGRESS"
               for name in ("HTTP", "SHELL")]
    wanted = {"imageIdentifier": image, "idlePolicy": POLICY, "ingressNetworkConnectors": ingress}
    ran = [driver.call("RunMicrovm", **wanted) for _ in range(2)]
    assert [item["state"] for item in ran] == ["PENDING", "PENDING"]
    first, second = (Microvm(clients, item["microvmId"], item["endpoint"]) for item in ran)
    first.wait_state("RUNNING")
    this = {"microvmIdentifier": first.id}
    shown = driver.call("GetMicrovm", **this)
    assert (shown["state"], shown["imageArn"]) == ("RUNNING", image)
    token = driver.call("CreateMicrovmAuthToken", **this, expirationInMinutes=5, allowedPorts=[{"port": 8080}])
    answer = first.request("/count", headers=token["authToken"] | {"Host": first.endpoint})
    assert (answer.status, answer.text) == (200, "1\n")
    # The endpoint has no shell yet; what the token opens is tested with it.
    assert all(driver.call("CreateMicrovmShellAuthToken", **this, expirationInMinutes=5)["authToken"].values())

    driver.call("SuspendMicrovm", **this)
    first.wait_state("SUSPENDED")
    driver.call("ResumeMicrovm", **this)
    first.wait_state("RUNNING")
    assert first.count() == 2

    listed = driver.pages("ListMicrovms", 1, imageIdentifier=image)
    everything = clients.microvms.get_paginator("list_microvms").paginate(imageIdentifier=image).build_full_result()
    check_pages(driver, listed, "microvmId", [item["microvmId"] for item in everything["items"]])
    assert {first.id, second.id} <= {item["microvmId"] for page in listed for item in page}

    for microvm in (first, second):
        driver.call("TerminateMicrovm", microvmIdentifier=microvm.id)
        microvm.wait_state("TERMINATED")
    with refused(driver, "ValidationException"):
        driver.call("ResumeMicrovm", **this)


def errors(driver: Driver, clients: Clients, busy_image: str) -> None:
    with refused(driver, "ConflictException"):
        driver.call("UpdateMicrovmImageVersion", imageIdentifier=busy_image, imageVersion="1.0", status="INACTIVE")
    with refused(driver, "ValidationException"):
        driver.call("GetMicrovmImage", imageIdentifier="no-arn")
    with refused(driver, "ResourceNotFoundException"):
        driver.call("GetMicrovm", microvmIdentifier=NO_MICROVM)
    with refused(driver, "AccessDeniedException"):
        driver.call("GetMicrovmImage", imageIdentifier=clients.image_arn("x").replace(ACCOUNT, "999999999999"))


def limits(driver: Driver, image: str) -> None:
    """On a server that has room for nothing more, and whose rate of GetMicrovm is
    exceeded all the time."""
    with refused(driver, "ServiceQuotaExceededException"):
        driver.call("CreateMicrovmImage", name="one-too-many", **CODE)
    with refused(driver, "InsufficientCapacityException"):
        driver.call("RunMicrovm", imageIdentifier=image, idlePolicy=POLICY)

    def throttled() -> bool:
        try:
            driver.call("GetMicrovm", microvmIdentifier=NO_MICROVM)
        except Refused as error:
            return (error.code, error.type) == ("ThrottlingException",) * 2
        return False
    wait_until(throttled, 60, "GetMicrovm is throttled")


def network_connectors(driver: Driver, clients: Clients) -> None:
    name = f"client-{type(driver).__name__.lower()}"
    ids = {}
    for number in (1, 2):
        made = driver.call("CreateNetworkConnector", Name=f"{name}-{number}", Configuration=egress("subnet-1"),
                           OperatorRole=f"arn:aws:iam::{ACCOUNT}:role/operator")
        assert made["State"] == "PENDING"
        ids[number] = made["Id"]
    with refused(driver, "ResourceConflictException"):
        driver.call("CreateNetworkConnector", Name=f"{name}-1", Configuration=egress("subnet-2"),
                    OperatorRole=f"arn:aws:iam::{ACCOUNT}:role/operator")

    def shown(number: int, member: str):
        return clients.core.get_network_connector(Identifier=ids[number]).get(member)
    wait_until(lambda: shown(1, "State") == shown(2, "State") == "ACTIVE", 30, "the connectors are ACTIVE")
    seen = driver.call("GetNetworkConnector", Identifier=ids[1])
    assert (seen["Name"], seen["State"]) == (f"{name}-1", "ACTIVE")
    updated = driver.call("UpdateNetworkConnector", Identifier=ids[1], Configuration=egress("subnet-2"))
    assert updated["LastUpdateStatus"] == "InProgress"
    wait_until(lambda: shown(1, "LastUpdateStatus") == "Successful", 30, "the update has ended")

    versions = [item["Version"] for item in clients.core.list_network_connector_versions(Identifier=ids[1])[
        "NetworkConnectorVersions"]]
    assert len(versions) == 2
    if "ListNetworkConnectorVersions" not in driver.lacks:
        check_pages(driver, driver.pages("ListNetworkConnectorVersions", 1, Identifier=ids[1]), "Version", versions)
    names = [item["Name"] for item in clients.core.list_network_connectors()["NetworkConnectors"]]
    assert {f"{name}-1", f"{name}-2"} <= set(names)
    check_pages(driver, driver.pages("ListNetworkConnectors", 1), "Name", names)

    for number, identifier in ids.items():
        assert driver.call("DeleteNetworkConnector", Identifier=identifier)["State"] == "DELETING"
        clients.delete_connector(f"{name}-{number}")
    with refused(driver, "ResourceNotFoundException"):
        driver.call("GetNetworkConnector", Identifier=ids[1])
    with refused(driver, "InvalidParameterValueException"):
        driver.call("GetNetworkConnector", Identifier="arn:aws:lambda:no-connector")


def egress(subnet: str) -> dict:
    return {"VpcEgressConfiguration": {"SubnetIds": [subnet], "SecurityGroupIds": ["sg-1"], "NetworkProtocol": "IPv4",
                                       "AssociatedComputeResourceTypes": ["MicroVm"]}}


def signatures(driver_class: type[Driver], server) -> None:
    """Keys that are wrong, as each client says it; no client has a class for these."""
    for setting, value, code in [("AWS_SECRET_ACCESS_KEY", "wrong", "InvalidSignatureException"),
                                 ("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN", "UnrecognizedClientException")]:
        with contextlib.closing(driver_class(server, {setting: value})) as driver:
            with refused(driver, code, modelled=False):
                if "lambda-microvms" in driver.services:
                    driver.call("GetMicrovm", microvmIdentifier=NO_MICROVM)
                else:
                    driver.call("GetNetworkConnector", Identifier="nc-none")

"""Official clients and one of other people's, unmodified: all operations, paginators and
errors (scenario.py)."""
import contextlib
import socket
import threading

import pytest
from botocore.exceptions import ClientError

import drivers
import model
import scenario
from artifact import zipped
from endpoint import Clients
from test_model import ABSENT

CLIENTS = [drivers.Boto3, drivers.AwsCli, drivers.JavaScript, drivers.JavaScriptOfModel, drivers.Rust, drivers.Capo]
# Errors that the models declare and a client cannot be made to see. The list may only shrink.
_INTERNAL = "A fault of the server."
_OF_TAGS = "Declared for tags only; what is wrong with those is a ValidationException."
NOT_PROVOKED = {
    ("lambda-microvms", "InternalServerException"): _INTERNAL,
    ("lambda-microvms", "ServiceException"): _INTERNAL,
    ("lambda-microvms", "InvalidParameterValueException"): _OF_TAGS,
    ("lambda-microvms", "ResourceConflictException"): _OF_TAGS,
    ("lambda-microvms", "TooManyRequestsException"): "Tags have no rate.",
    ("lambda-core", "ServiceException"): _INTERNAL,
    ("lambda-core", "TooManyRequestsException"): "Network connectors have no rate.",
    ("lambda-core", "NetworkConnectorLimitExceededException"): "Network connectors have no limit.",
}


@pytest.fixture(scope="module")
def silent():
    """A registry that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture(scope="module")
def roomy(servers_of_module, silent):
    """A server without a past."""
    mirrors = {"silent.hearth.test": "http://127.0.0.1:%d" % silent.getsockname()[1]}
    clients = Clients(servers_of_module({"build": {"registry_mirrors": mirrors}}))
    clients.s3.create_bucket(Bucket="busy")
    code = zipped({"Dockerfile": "FROM silent.hearth.test/base:1\n"})
    clients.s3.put_object(Bucket="busy", Key="code.zip", Body=code)
    return clients


@contextlib.contextmanager
def busy_image(clients: Clients, silent: socket.socket):
    """ARN of an image that is CREATING: its base image is being asked for."""
    arn = clients.create_image("busy", "s3://busy/code.zip")
    silent.settimeout(60)
    connection, _ = silent.accept()
    with connection:
        yield arn
    # Pulls are tried again.
    silent.settimeout(0.05)
    while clients.image_state(arn) == "CREATING":
        with contextlib.suppress(TimeoutError):
            silent.accept()[0].close()
    clients.delete_image(arn)


@pytest.fixture(scope="module")
def full(servers_of_module):
    """A server that has room for nothing more, and is asked for microVMs more often
    than it allows."""
    tight = {"quotas": {"images": 1, "minimum_available_memory_mib": 1 << 30}, "rates": {"get_microvm": 1}}
    clients = Clients(servers_of_module(tight))
    end = threading.Event()

    def ask():
        while not end.wait(0.02):
            with contextlib.suppress(ClientError):
                clients.microvms.get_microvm(microvmIdentifier=scenario.NO_MICROVM)
    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    yield clients
    end.set()
    for asker in askers:
        asker.join()


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_a_client_does_everything(client, roomy, full, silent, image):
    with contextlib.closing(client(roomy.server)) as driver, contextlib.closing(client(full.server)) as limited:
        if "lambda-microvms" in client.services:
            scenario.managed_images(driver)
            scenario.images(driver, roomy)
            scenario.microvms(driver, roomy, image)
            with busy_image(roomy, silent) as busy:
                scenario.errors(driver, roomy, busy)
            scenario.limits(limited, image)
        if "lambda-core" in client.services:
            scenario.network_connectors(driver, roomy)
        scenario.signatures(client, roomy.server)

        served = {name for name in model.operations().keys() - ABSENT.keys() - client.lacks
                  if drivers.service_of(name) in client.services}
        missed = served - driver.called - driver.paged
        assert not missed, f"operations that no step of the scenario calls: {sorted(missed)}"
        paginators = served & drivers.paginators().keys()
        assert driver.paged == paginators, f"paginators: {driver.paged ^ paginators}"
        declared = {(drivers.service_of(name), error.name) for name in served
                    for error in model.operations()[name].error_shapes}
        provoked = (driver.refusals | limited.refusals) & declared
        assert declared - NOT_PROVOKED.keys() == provoked, declared - NOT_PROVOKED.keys() ^ provoked


def test_errors_that_are_not_provoked_are_declared():
    declared = {(drivers.service_of(name), error.name) for name, operation in model.operations().items()
                for error in operation.error_shapes}
    assert NOT_PROVOKED.keys() <= declared


def test_what_the_cli_lacks(server):
    """A newer one may have it; then delete it from the list."""
    cli = drivers.AwsCli(server)
    assert not [operation for operation in cli.lacks if cli.knows(operation)]
    assert cli.knows("ListNetworkConnectors")

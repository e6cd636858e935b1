"""MicroVMs outlive the server: a later one takes them over, whatever ended the former and whatever it was doing."""
import pathlib
import shutil

import pytest

import footprint
from endpoint import Clients, Microvm
from footprint import footprint as left_behind
from harness import Server, wait_until


@pytest.fixture
def enduring(another_server) -> Server:
    """Leaves its microVMs running when it is stopped, as the program does by default."""
    server = another_server(footprint.SETTINGS)
    assert server.stop() == 0
    server.on_stop = None
    return server.start()


def again(server: Server, *microvms: Microvm) -> Clients:
    """Starts the server again, on other ports."""
    clients = Clients(server.start())
    for microvm in microvms:
        microvm.clients = clients
        microvm.endpoint = microvm.get()["endpoint"]
    return clients


def facts(microvm: Microvm) -> tuple:
    """What only this guest has, and only as long as it runs: its kernel's boot id, its first process, its process."""
    return microvm.sh("cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1"), microvm.vmm()


def test_a_killed_server_is_succeeded(enduring, image):
    server = enduring
    clients = Clients(server)
    microvm = clients.run(image)
    assert [microvm.count() for _ in range(3)] == [1, 2, 3]
    before = facts(microvm)
    server.kill()

    again(server, microvm)
    assert microvm.state == "RUNNING"
    assert facts(microvm) == before
    assert microvm.count() == 4
    microvm.suspend()
    assert microvm.count() == 5
    microvm.terminate()
    assert server.stop() == 0
    assert left_behind(server) == {}

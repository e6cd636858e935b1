"""A file system without room: what fails says so, and nothing is lost."""
import contextlib
import os
import pathlib
import subprocess

import pytest
from botocore.exceptions import ClientError

import footprint
from endpoint import MIB, Clients, again
from harness import ACCOUNT, wait_until
from scenario import egress


@pytest.fixture
def small_disk(base):
    """A file system of its own, large enough for two images and little more. Not a tmpfs, where
    reading the holes of a sparse file takes space."""
    directory, disk = base / "small-disk", base / "small-disk.img"
    directory.mkdir(exist_ok=True)
    with open(disk, "wb") as file:
        file.truncate(3000 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", disk], check=True)
    subprocess.run(["mount", "-o", "loop", disk, directory], check=True)
    yield directory
    subprocess.run(["umount", directory], check=True)
    disk.unlink()


def fill(directory: pathlib.Path, leave_bytes: int, name: str = "filler") -> pathlib.Path:
    """Takes everything, then gives so many bytes back."""
    filler = directory / name
    with open(filler, "wb") as file:
        for step in (64 * MIB, MIB, 4096):
            with contextlib.suppress(OSError):
                while True:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)
        file.truncate(os.fstat(file.fileno()).st_size - leave_bytes)
    return filler


def test_a_full_disk(small_disk, another_server, image):
    settings = footprint.SETTINGS | {"build": {"minimum_free_disk_mib": 64}}
    server = another_server(settings, directory=small_disk / "data", link=False, images={"probe"})
    clients = Clients(server)
    microvm = clients.run(image)
    assert microvm.request("/touch?mib=48").status == 200
    assert microvm.count() == 1
    connector = {"Name": "early", "ClientToken": "the-connector-that-was-made-before", "Configuration": egress("subnet-1"),
                 "OperatorRole": f"arn:aws:iam::{ACCOUNT}:role/operator"}
    made = clients.core.create_network_connector(**connector)["Arn"]
    filler = fill(small_disk, 8 * MIB)

    suspend = clients.microvms.suspend_microvm
    suspend(microvmIdentifier=microvm.id)
    wait_until(lambda: "keeps running" in (microvm.get().get("stateReason") or ""), 30, "the suspend has failed")
    assert microvm.state == "RUNNING"
    assert "no space left" in microvm.get()["stateReason"]
    assert microvm.count() == 2
    used = sum(file.stat().st_blocks * 512 for file in (server.data_dir / "microvms" / microvm.id).iterdir())
    assert used < 4 * MIB, "what the failed suspend wrote is still there"

    with pytest.raises(ClientError, match="The host has no room"):
        clients.create_image("full", "s3://code/probe.zip")
    with pytest.raises(ClientError, match="InternalFailure|ServiceException"):
        clients.core.create_network_connector(**connector | {"Name": "late", "ClientToken": "one-that-would-be-made-only-now"})
    assert clients.core.create_network_connector(**connector)["Arn"] == made, "what was made is told again"
    assert microvm.count() == 3

    brim = fill(small_disk, 0, "brim")
    server.kill()
    clients = again(server, microvm)
    assert microvm.count() == 4
    brim.unlink()

    filler.unlink()
    late = clients.create_image("late", "s3://code/probe.zip")
    wait_until(lambda: footprint.vmm_named("snapshot"), 300, "the microVM that is to be the snapshot runs")
    filler = fill(small_disk, 8 * MIB)
    state, reason = clients.wait_built(late)
    assert state == "CREATE_FAILED" and reason.startswith("DISK_STORAGE_FULL: "), reason
    assert microvm.count() == 5
    assert not list((server.data_dir / "builds").iterdir()), "what the failed build wrote is still there"

    filler.unlink()
    microvm.suspend()
    assert "stateReason" not in microvm.get() or not microvm.get()["stateReason"]
    assert microvm.count() == 6
    assert microvm.request("/touch?mib=1").text == "49\n"
    microvm.terminate()
    assert server.stop() == 0

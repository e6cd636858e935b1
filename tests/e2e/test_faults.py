"""Faults with real guests. After each: every acknowledged write is there, every record is true,
nothing leaks, and other microVMs answered throughout.

`make soak` runs the long form: HEARTH_FAULTS=50 kills of the service,
HEARTH_SOAK_MINUTES=30 with 20 microVMs.
"""
import contextlib
import os
import random
import signal
import subprocess
import time

import pytest

import faults
import footprint
from endpoint import MIB, Clients, Microvm, again
from faults import Busy, Life, fault
from footprint import footprint as left_behind
from harness import Server, snapshot_of, unreferenced, wait_until
from test_full_disk import fill, small_disk  # noqa: F401 (a fixture)

KILLS = int(os.environ.get("HEARTH_FAULTS", "4"))
SOAK_SECONDS = float(os.environ.get("HEARTH_SOAK_MINUTES", "0.5")) * 60
SOAK_MICROVMS = int(os.environ.get("HEARTH_SOAK_MICROVMS", "4"))
SEED = int(os.environ.get("HEARTH_FAULT_SEED", "1"))


@pytest.fixture
def enduring(another_server):
    """A server of its own whose microVMs run on when it goes."""
    server = another_server(footprint.SETTINGS | {"rates": dict.fromkeys(
        ("run_microvm", "suspend_microvm", "resume_microvm", "terminate_microvm", "create_microvm_auth_token"), 0)})
    assert server.stop() == 0
    server.on_stop = None
    return server.start()


@pytest.fixture
def neighbour(clients, image):
    """A microVM of the session's server that has to answer whatever happens to others."""
    microvm = clients.run(image)
    assert microvm.count() == 1
    yield microvm
    microvm.terminate(wait=False)


def nothing_left(server: Server) -> None:
    server.on_stop = "suspend"
    assert server.stop() == 0
    assert left_behind(server) == {}


# The service.

def test_the_service_is_killed_at_any_moment(enduring, image):
    server, chance = enduring, random.Random(SEED)
    clients = Clients(server)
    lives = [Life(image, random.Random(SEED * 100 + number)) for number in range(3)]
    neighbour = clients.run(image)
    for kill in range(1, KILLS + 1):
        with fault("kill -9 of the service, at a random moment"):
            busy = Busy(lives, clients)
            time.sleep(chance.uniform(0.02, 2.5))
            busy.stop()
            server.kill()
            busy.join()
            clients = again(server, neighbour)
            for life in lives:
                life.check(clients)
            assert neighbour.count() == kill, "a running microVM that nobody touched has lost its memory"
            known = {life.microvm.id for life in lives if life.microvm} | {neighbour.id}
            faults.end_strangers(clients, known)
            running = [microvm for microvm in known if Microvm(clients, microvm, "").state == "RUNNING"]
            assert len(footprint.processes()) == len(running)
            assert set(os.listdir(server.data_dir / "run")) == set(running)
            assert set(os.listdir(server.data_dir / "microvms")) == known
            assert not unreferenced(server.data_dir)
    for life in lives:
        life.finish()
    neighbour.terminate()
    nothing_left(server)


# A VMM.

def test_a_vmm_is_killed_while_it_is_suspended(run, neighbour):
    for pause in (0, 0.02, 0.05):
        with fault("kill -9 of QEMU during a suspend"):
            microvm = run()
            microvm.request("/touch?mib=16")
            assert microvm.count() == 1
            pid = microvm.vmm()
            microvm.clients.microvms.suspend_microvm(microvmIdentifier=microvm.id)
            time.sleep(pause)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if microvm.wait_state("SUSPENDED", "TERMINATED") == "SUSPENDED":
                assert microvm.count() == 2, "SUSPENDED was acknowledged"
            else:
                assert microvm.get()["stateReason"].startswith((
                    "The virtual machine monitor ended unexpectedly", "The MicroVM was lost while it was being suspended: "))
            faults.answers(neighbour)


def test_a_vmm_that_is_stopped(run, neighbour):
    with fault("SIGSTOP of QEMU"):
        microvm = run()
        os.kill(microvm.vmm(), signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            microvm.request("/count", timeout=1)
        faults.answers(neighbour)
        microvm.terminate(wait=False)
        microvm.wait_state("TERMINATED", timeout=60)
        wait_until(lambda: microvm.vmm() is None, 10, "its process is gone")
    with fault("SIGSTOP of QEMU for a while"):
        microvm = run()
        assert microvm.count() == 1
        os.kill(microvm.vmm(), signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            microvm.request("/count", timeout=1)
        os.kill(microvm.vmm(), signal.SIGCONT)
        # The request that nobody waited for may have been counted.
        assert microvm.count() in (2, 3)


# Files.

def test_a_flipped_bit_in_any_file_of_a_snapshot(clients, run, neighbour):
    first = run()
    first.suspend()
    microvms = clients.server.data_dir / "microvms"
    names = sorted(path.name for path in snapshot_of(microvms / first.id).iterdir())
    assert {"manifest.json", "disk.qcow2"} <= set(names) and len(names) >= 4, names
    for name in names:
        for damage in ("flipped bit", "removal"):
            with fault(f"{damage} in a snapshot"):
                microvm = run()
                assert microvm.count() == 1
                microvm.suspend()
                path = snapshot_of(microvms / microvm.id) / name
                if name == "disk.qcow2":
                    # One file under two names, while it rests.
                    path = microvms / microvm.id / name
                    assert path.stat().st_nlink == 2
                if damage == "removal":
                    path.unlink()
                else:
                    content = bytearray(path.read_bytes())
                    content[len(content) // 2] ^= 4
                    path.write_bytes(content)
                if (name, damage) == ("disk.qcow2", "removal"):
                    assert microvm.count() == 2, "the other name was enough"
                    continue
                assert microvm.request("/count").status == 502
                microvm.wait_state("TERMINATED")
                reason = microvm.get()["stateReason"]
                assert reason.startswith("The MicroVM could not be resumed: ") and str(path) in reason, reason
                assert not path.parent.exists() and not (microvms / microvm.id).exists()
                faults.answers(neighbour)
    assert first.count() == 1


def test_a_damaged_image(another_server, image, base):
    server = another_server(footprint.SETTINGS, link=False, images={"probe"})
    clients = Clients(server)
    asleep = clients.run(image)
    assert asleep.count() == 1
    asleep.suspend()
    [version] = (server.data_dir / "images").glob("*/probe/*")
    snapshot = snapshot_of(version)
    for name in ("memory", "device-state", "manifest.json", "disk.raw"):
        with fault("flipped bit in an image"):
            path, length = snapshot / name, (snapshot / name).stat().st_size
            with open(path, "r+b") as file:
                at = length // 2 if length < MIB else first_data(file)
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 4]))
            broken = clients.run(image, wait=False)
            broken.wait_state("TERMINATED")
            reason = broken.get()["stateReason"]
            assert reason.startswith("The MicroVM could not be launched: ") and str(path) in reason, reason
            with open(path, "r+b") as file:
                file.seek(at)
                file.write(bytes([byte]))
    assert asleep.count() == 2, "the image is whole again"
    asleep.terminate()
    nothing_left(server)


def first_data(file) -> int:
    """Place of a byte that is not in a hole."""
    return os.lseek(file.fileno(), 0, os.SEEK_DATA) + 100


# A full disk.

def test_records_are_true_on_a_full_disk(small_disk, another_server, image):  # noqa: F811
    server = another_server(footprint.SETTINGS, directory=small_disk / "data", link=False, images={"probe"})
    clients = Clients(server)
    with fault("disk full to the last block"):
        microvms = [clients.run(image) for _ in range(2)]
        assert [microvm.count() for microvm in microvms] == [1, 1]
        filler = fill(small_disk, 0)
        with pytest.raises(clients.microvms.exceptions.InsufficientCapacityException, match="no room for another"):
            clients.run(image)
        suspend = clients.microvms.suspend_microvm
        suspend(microvmIdentifier=microvms[0].id)
        wait_until(lambda: "keeps running" in (microvms[0].get().get("stateReason") or ""), 30, "the suspend has failed")
        assert [microvm.count() for microvm in microvms] == [2, 2]
        microvms[1].terminate()
        assert microvms[1].get()["stateReason"] == "Success."
        # The service goes and comes back on the full disk.
        server.kill()
        filler.unlink()
        clients = again(server, *microvms)
        assert [microvm.state for microvm in microvms] == ["RUNNING", "TERMINATED"]
        assert microvms[0].count() == 3
        microvms[0].suspend()
        assert microvms[0].count() == 4
    microvms[0].terminate()
    nothing_left(server)


# Guests that misbehave.

MISBEHAVIOUR = {
    "a guest that floods its console and output": "(yes flood >/dev/console) & (yes flood >/proc/1/fd/1) & sleep 2",
    "a guest that forks without end": "perl -e 'fork while 1' >/dev/null 2>&1 & sleep 2",
    "a guest that fills its disk": "dd if=/dev/zero of=/fill bs=1M count=400; sync",
    "a guest that fills its memory": "perl -e 'my @a; push @a, \"x\" x (1 << 20) while 1'; true",
    "a guest that ignores signals": "perl -e '$SIG{$_} = \"IGNORE\" for qw(TERM INT HUP); sleep 600' >/dev/null 2>&1 &",
}


@pytest.fixture(scope="module")
def crowd(servers_of_module):
    """Clients of a server of its own: what a guest floods would be in the logs that
    other tests search."""
    return Clients(servers_of_module())


@pytest.mark.parametrize("kind", MISBEHAVIOUR)
def test_a_guest_that_misbehaves(kind, crowd, image):
    clients, neighbour = crowd, crowd.run(image)
    with fault(kind):
        microvm, before = clients.run(image), faults.resident_mib(clients.server.process.pid)
        # A guest that is busy with itself need not answer.
        with contextlib.suppress(TimeoutError, AssertionError, *faults.CUT_OFF):
            microvm._token = microvm.token()
            microvm.request("/", "POST", MISBEHAVIOUR[kind].encode(), port=8081, timeout=20)
        faults.answers(neighbour)
        state = microvm.state
        assert state == "RUNNING" or microvm.get()["stateReason"].startswith("Container Stopped with Exit Code: ")
        microvm.terminate(wait=False)
        microvm.wait_state("TERMINATED", timeout=60)
        wait_until(lambda: microvm.vmm() is None, 10, "its process is gone")
        faults.answers(neighbour)
        neighbour.terminate()
        assert faults.resident_mib(clients.server.process.pid) - before < 64


# Soak.

def test_a_long_life(enduring, image):
    """Random life without faults: the service's memory and descriptors stay what they are."""
    server, clients = enduring, Clients(enduring)
    lives = [Life(image, random.Random(SEED * 1000 + number)) for number in range(SOAK_MICROVMS)]
    busy, begin, seen = Busy(lives, clients), time.monotonic(), []
    while time.monotonic() - begin < SOAK_SECONDS and not busy.failures:
        time.sleep(min(10, SOAK_SECONDS / 6))
        seen.append((faults.resident_mib(server.process.pid), faults.descriptors(server.process.pid)))
    busy.stop()
    busy.join()
    for life in lives:
        life.finish()
    print(f"\nsoak: {SOAK_SECONDS:.0f} s, {SOAK_MICROVMS} microVMs, resident MiB and descriptors over time: {seen}")
    # What is cached and what is under way grows at first; then it has to stay.
    early, late = seen[len(seen) // 3], seen[-1]
    assert late[0] - early[0] < 48, seen
    # Each connection to a guest is one; those of a busy moment come and go.
    assert late[1] - early[1] < 20 * SOAK_MICROVMS, seen
    settled = wait_until(lambda: faults.descriptors(server.process.pid) < 64 or None, 90, "descriptors are given back")
    assert settled
    nothing_left(server)

"""MicroVMs outlive the server: a later one takes them over, whatever ended the former and
whatever it was doing."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

import footprint
from endpoint import Clients, Microvm, again
from footprint import footprint as left_behind
from harness import HEARTH, Server, copy_data_dir, printing, wait_until

# Writes a rising number into a file, and to the app's output, until the guest's end.
WRITER = "i=0; while :; do i=$((i+1)); echo $i >/var/tmp/sequence; echo sequence $i >/proc/1/fd/1; sleep 0.05; done"


@pytest.fixture
def enduring(another_server):
    """A server that leaves its microVMs running when it is stopped, as the program
    does by default."""
    server = another_server(footprint.SETTINGS)
    assert server.stop() == 0
    server.on_stop = None
    return server.start()


class Busy:
    """A microVM with something in memory, on its disk, and under way."""

    def __init__(self, clients: Clients, image: str, counts: int):
        self.microvm, self.counts = clients.run(image), counts
        assert [self.microvm.count() for _ in range(counts)] == list(range(1, counts + 1))
        self.microvm.request("/file", "PUT", b"kept")
        self.microvm.sh(f"({WRITER}) >/dev/null 2>&1 &")
        wait_until(lambda: self.number() > 0, 30, "the sequence has begun")
        self.facts, self.left_at = self.same(), 0

    def same(self) -> tuple:
        """What only this guest has, and only as long as it runs."""
        return self.microvm.sh("cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1"), self.microvm.vmm()

    def number(self) -> int:
        # The file is empty for a moment whenever it is written.
        return int(wait_until(lambda: self.microvm.sh("cat /var/tmp/sequence || echo 0", check=False), 30, "a number").split()[-1])

    def leave(self) -> None:
        self.left_at = self.number()

    def check(self, clients: Clients) -> None:
        """It is the same guest, and nothing in it stood still."""
        assert self.microvm.state == "RUNNING", self.microvm.get()
        assert self.same() == self.facts
        self.counts += 1
        assert self.microvm.count() == self.counts
        assert self.microvm.request("/file").text == "kept"
        assert self.number() > self.left_at
        wait_until(lambda: self.logged(clients)[-1:] >= [self.left_at], 30, "the log has gone on")
        logged = self.logged(clients)
        assert logged == list(range(1, len(logged) + 1)), "every line once"

    def logged(self, clients: Clients) -> list[int]:
        lines = clients.log_lines("/aws/lambda-microvms/probe", stream=self.microvm.id)
        return [int(found[1]) for line in lines if (found := re.fullmatch(r"sequence (\d+)", line))]


def end(server: Server, *microvms: Microvm) -> None:
    """Everything is given back with the last microVM."""
    for microvm in microvms:
        microvm.terminate()
    assert server.stop() == 0
    assert left_behind(server) == {}


def test_running_microvms_survive_every_end_of_the_server(enduring, image, base):
    server, clients = enduring, Clients(enduring)
    guests = [Busy(clients, image, counts) for counts in (1, 2, 3)]
    microvms = [guest.microvm for guest in guests]

    def go_on(ends) -> Clients:
        for guest in guests:
            guest.leave()
        ends()
        clients = again(server, *microvms)
        for guest in guests:
            guest.check(clients)
        return clients

    go_on(server.kill)
    # An upgrade: another file, at another place, and the former one is gone.
    upgraded = pathlib.Path(shutil.copy(HEARTH, base / "hearth-upgraded"))
    server.program = upgraded
    go_on(lambda: server.stop())
    server.program = HEARTH
    upgraded.unlink()
    clients = go_on(server.kill)

    # DNS and the way out work as before, and so does everything that can be done with a microVM.
    assert "203.0.113.2" in microvms[0].sh("getent ahostsv4 public.hearth.test")
    for guest in guests[:2]:
        guest.microvm.suspend()
        guest.counts += 1
        assert guest.microvm.count() == guest.counts
    assert guests[0].number() > guests[0].left_at
    server.kill()
    again(server, *microvms)
    assert {microvm.state for microvm in microvms} == {"RUNNING"}
    assert guests[1].microvm.count() == guests[1].counts + 1
    end(server, *microvms)


def test_timers_of_what_was_taken_over(enduring, image):
    server = enduring
    idle = Clients(server).run(image, idle=10)
    ending = Clients(server).run(image, maximumDurationInSeconds=60)
    server.kill()
    again(server, idle, ending)
    assert (idle.state, ending.state) == ("RUNNING", "RUNNING")
    idle.wait_state("SUSPENDED")
    assert ending.wait_state("TERMINATED", timeout=90)
    assert ending.get()["stateReason"] == "MicroVM exceeded maximum lifetime."
    end(server, idle)


def test_a_guest_that_ended_meanwhile(enduring, image):
    server, clients = enduring, Clients(enduring)
    crashed, other = clients.run(image), clients.run(image)
    server.kill()
    os.kill(crashed.vmm(), signal.SIGKILL)
    wait_until(lambda: crashed.vmm() is None or footprint.owner(str(crashed.vmm())) == -1, 30, "it is gone")
    again(server, crashed, other)
    assert crashed.wait_state("TERMINATED")
    assert crashed.get()["stateReason"] == "The virtual machine monitor ended while the service was not running."
    assert other.count() == 1
    # From here on a stranger's process is watched: its end is noticed, its status is not known.
    os.kill(other.vmm(), signal.SIGKILL)
    other.wait_state("TERMINATED")
    assert other.get()["stateReason"] == "The virtual machine monitor ended unexpectedly."
    end(server)


def test_what_another_version_has_started_ends_with_a_reason(enduring, image):
    server, clients = enduring, Clients(enduring)
    newer, other = clients.run(image), clients.run(image)
    server.kill()
    path = server.data_dir / "run" / newer.id / "vmm.json"
    record = json.loads(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(json.dumps(record | {"version": record["version"] + 1}))
    again(server, newer, other)
    newer.wait_state("TERMINATED")
    assert newer.get()["stateReason"].startswith("The MicroVM could not be taken over by the service: ")
    assert newer.vmm() is None
    assert other.count() == 1
    end(server, other)


def killed_in(server: Server, microvm: Microvm, call, state: str) -> Clients:
    """Kills the server while it is at the step that the call begins."""
    call(microvmIdentifier=microvm.id)
    assert microvm.state == state
    server.kill()
    return again(server, microvm)


def test_steps_are_finished_or_undone(enduring, image):
    server, clients = enduring, Clients(enduring)
    # A launch.
    microvm = clients.run(image, wait=False)
    server.kill()
    clients = again(server, microvm)
    microvm.wait_state("RUNNING")
    assert [microvm.count(), microvm.count()] == [1, 2]
    # A suspend, whose snapshot takes a while.
    microvm.request("/touch?mib=64")
    clients = killed_in(server, microvm, clients.microvms.suspend_microvm, "SUSPENDING")
    microvm.wait_state("SUSPENDED")
    # A resume.
    clients = killed_in(server, microvm, clients.microvms.resume_microvm, "PENDING")
    microvm.wait_state("RUNNING")
    assert microvm.count() == 3
    # A termination.
    clients.microvms.terminate_microvm(microvmIdentifier=microvm.id)
    server.kill()
    again(server, microvm)
    microvm.wait_state("TERMINATED")
    assert microvm.get()["stateReason"] == "Success."
    end(server)


def test_two_servers_and_a_stranger_do_not_meet(enduring, another_server, image, base):
    one, two = enduring, another_server()
    first, second = Clients(one).run(image), Clients(two).run(image)
    assert (first.count(), second.count()) == (1, 1)
    # A process of somebody else with the name of a VMM, and the copy of a run
    # directory that is in use.
    strange = subprocess.Popen(["sleep", "600"])
    try:
        record = json.loads((two.data_dir / "run" / second.id / "vmm.json").read_text())
        shutil.copytree(two.data_dir / "run" / second.id, one.data_dir / "run" / second.id,
                        ignore=shutil.ignore_patterns("qmp.sock"))
        made_up = one.data_dir / "run" / "microvm-made-up"
        made_up.mkdir()
        record["process"]["pid"] = strange.pid
        (made_up / "vmm.json").write_text(json.dumps(record))
        one.kill()
        again(one, first)
        assert first.count() == 2
        assert second.count() == 2 and strange.poll() is None
        assert sorted(os.listdir(one.data_dir / "run")) == [first.id]
    finally:
        strange.kill()
        strange.wait()
    end(one, first)
    assert second.count() == 3


def test_commands_that_follow_outlive_the_server(enduring, image):
    clients = Clients(enduring)
    before = clients.run(image)
    # So that the command finds the next server.
    enduring.api_addr = enduring.api_url.removeprefix("http://")
    with printing([HEARTH, "events", "-f"], clients.env) as lines:
        def told(microvm: Microvm):
            wait_until(lambda: any(microvm.id in line for line in lines), 60, f"{microvm.id} is told of: {lines}")
        told(before)
        assert enduring.stop() == 0
        wait_until(lambda: any("waiting for the server" in line for line in lines), 60, "it waits")
        after = again(enduring, before).run(image)
        told(after)
    for microvm in (before, after):
        microvm.terminate(wait=False)

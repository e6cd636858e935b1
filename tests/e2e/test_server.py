"""The server as a process: what it refuses, what it leaves behind, and what survives its end."""
import os
import shutil
import socket

import footprint
from artifact import zipped
from endpoint import Clients
from footprint import footprint as left_behind
from harness import HEARTH, Server, wait_until

# By the kind of microVM that a build stays in: with its RUN line, or with its app,
# which never listens.
ENDLESS = {
    "build": "FROM small:1\nRUN perl -e 'sleep 600'\n",
    "snapshot": 'FROM small:1\nCMD ["perl", "-e", "sleep"]\n',
}


# What it refuses, in one sentence.

def test_a_data_directory_in_use(server, settings, base):
    said = Server(server.data_dir, settings, base, "in-use").refuses()
    assert f"the data directory {server.data_dir} is in use by another hearth server (process {server.process.pid})" in said


def test_a_port_in_use(base, settings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        for argument in ("api_addr", "endpoint_addr"):
            other = Server(base / "port-taken", settings, base, "port-taken")
            setattr(other, argument, address)
            said = other.refuses()
            assert f"cannot listen on {address}" in said and argument.replace("_", "-") in said, said


def test_not_root(base, settings):
    other = Server(base / "not-root", settings, base, "not-root")
    base.chmod(0o755)
    # The build's directory may be closed to other users.
    other.program = shutil.copy(HEARTH, base / "hearth")
    said = other.refuses("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    assert "hearth serve needs root" in said and "sudo" in said
    assert not other.data_dir.exists()


def test_no_qemu(base, settings):
    said = Server(base / "no-qemu", settings | {"guest": {"qemu": "/nonexistent/qemu"}}, base, "no-qemu").refuses()
    assert "/nonexistent/qemu is not installed" in said and "make setup" in said


def test_a_configuration_that_is_none(base, settings):
    said = Server(base / "bad-config", settings | {"regoin": "x"}, base, "bad-config").refuses()
    assert "regoin" in said


# What it leaves behind.

class Busy:
    """A server with something in every phase: builds, and microVMs that launch, run, sleep, fall
    asleep and wake up."""

    def __init__(self, server: Server, image: str, *builds: str):
        self.server, self.clients = server, Clients(server)
        self.builds = [self.create(name) for name in builds]
        self.asleep, self.awake, self.falling, self.waking = (self.clients.run(image, wait=False) for _ in range(4))
        for microvm, counts in ((self.asleep, 2), (self.awake, 3), (self.falling, 4), (self.waking, 5)):
            assert [microvm.count() for _ in range(counts)] == list(range(1, counts + 1))
        self.awake.request("/file", "PUT", b"kept")
        self.asleep.suspend()
        self.waking.suspend()
        for name in builds:
            wait_until(lambda: footprint.vmm_named(name), 300, f"a {name} microVM runs")
        self.falling.request("/touch?mib=64")
        self.clients.microvms.suspend_microvm(microvmIdentifier=self.falling.id)
        self.clients.microvms.resume_microvm(microvmIdentifier=self.waking.id)
        self.launching = self.clients.run(image, wait=False)

    def create(self, name: str) -> str:
        self.clients.s3.put_object(Bucket="code", Key=f"{name}.zip", Body=zipped({"Dockerfile": ENDLESS[name]}))
        return self.clients.create_image(name, f"s3://code/{name}.zip")

    def restarted(self) -> Clients:
        """Starts the server again, on other ports; the builds have failed and say why."""
        clients = Clients(self.server.start())
        for microvm in (self.asleep, self.awake, self.falling, self.waking, self.launching):
            microvm.clients = clients
            microvm.endpoint = microvm.get()["endpoint"]
        for build in self.builds:
            state, reason = clients.wait_built(build)
            assert state == "CREATE_FAILED" and "The service was stopped during the build" in reason
        return clients


def test_sigterm_in_every_phase(another_server, image, small):
    server = another_server(footprint.SETTINGS)
    busy = Busy(server, image, "build", "snapshot")
    assert {"processes", "rules", "links"} <= set(left_behind(server))
    assert server.stop() == 0
    assert left_behind(server) == {}

    busy.restarted()
    kept = (busy.asleep, busy.awake, busy.falling, busy.waking)
    assert {microvm.state for microvm in kept} == {"SUSPENDED"}
    assert [microvm.count() for microvm in kept] == [3, 4, 5, 6]
    assert busy.awake.request("/file").text == "kept"
    # The launch was either over before the signal, or ended by it.
    if busy.launching.state == "TERMINATED":
        assert "stopped while the MicroVM was being launched" in busy.launching.get()["stateReason"]
    else:
        assert busy.launching.count() == 1
    assert server.stop() == 0
    assert left_behind(server) == {}


def test_after_a_kill_everything_goes_on_and_leftovers_are_swept(another_server, image, small):
    server = another_server(footprint.SETTINGS)
    busy = Busy(server, image, "build", "snapshot")
    server.kill()
    half = server.data_dir / "microvms" / "microvm-of-nobody"
    half.mkdir()

    clients = busy.restarted()
    for microvm, state in ((busy.asleep, "SUSPENDED"), (busy.awake, "RUNNING"), (busy.falling, "SUSPENDED"),
                           (busy.waking, "RUNNING"), (busy.launching, "RUNNING")):
        microvm.wait_state(state)
    microvms = (busy.asleep, busy.awake, busy.falling, busy.waking, busy.launching)
    assert [microvm.count() for microvm in microvms] == [3, 4, 5, 6, 1]
    assert busy.awake.request("/file").text == "kept"
    # One VMM for each, and none of the builds; no files of builds and of microVMs
    # that nobody knows.
    assert len(footprint.processes()) == len(microvms)
    assert set(os.listdir(server.data_dir / "run")) == {microvm.id for microvm in microvms}
    assert not half.exists() and not list((server.data_dir / "builds").glob("*"))
    # The quota of builds is free again.
    again = clients.create_image("again", "s3://code/build.zip")
    wait_until(lambda: footprint.vmm_named("build"), 300, "a build has begun")
    assert server.stop() == 0
    assert left_behind(server) == {}
    assert Clients(server.start()).wait_built(again)[0] == "CREATE_FAILED"
    assert server.stop() == 0


def test_sigterm_while_nothing_happens(another_server):
    server = another_server(footprint.SETTINGS)
    assert server.stop(timeout=10) == 0
    assert left_behind(server) == {}

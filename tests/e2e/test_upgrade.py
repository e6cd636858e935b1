"""An upgrade: the data directory of an earlier version is taken over, whatever ended that version's server and
whatever it was doing. `make upgrade` builds it, and says in the environment where it is."""
import contextlib
import json
import os
import pathlib
import re
import sqlite3
import subprocess
import time

import pytest

import footprint
import images
from endpoint import Clients, Microvm, again
from harness import ACCOUNT, HEARTH, Server, copy_data_dir, wait_until
from scenario import egress
from shells import HTTP_AND_SHELL, Shell, shell_token
from test_authorization import allow, policy
from test_events import all_of
from test_hooks import log
from test_restart import Busy, end

OLD_BIN, OLD_CACHE = (pathlib.Path(os.environ[f"HEARTH_OLD_{name}"]) for name in ("BIN", "CACHE"))
# By these it said in the directory of a microVM what the record says now.
OLD_FILES = ("diverged", "run-hook-called", "run-hook-payload")
PAYLOAD = json.dumps({"what": "the payload"})


def be_old(server: Server) -> Server:
    server.program, server.environment = OLD_BIN, {"XDG_CACHE_HOME": str(OLD_CACHE)}
    return server


def be_new(server: Server) -> Server:
    server.program, server.environment = HEARTH, {}
    return server


@pytest.fixture(scope="module")
def known(settings):
    """Settings that both versions know."""
    build = {name: value for name, value in settings["build"].items() if name != "vcpus"}
    network = settings["network"] | footprint.SETTINGS["network"]
    return settings | {"build": build, "network": network, "guest": footprint.SETTINGS["guest"]}


@pytest.fixture(scope="module")
def built(base, known):
    """A data directory of the earlier version with two images, and no server."""
    assert OLD_BIN.exists(), f"{OLD_BIN} is missing: run `make upgrade`"
    server = be_old(Server(base / "old", known, base, "old-builds")).start()
    images.build(Clients(server), {name: images.RECIPES[name] for name in ("probe", "hooks")})
    assert server.stop() == 0
    yield server.data_dir
    subprocess.run(["rm", "-rf", server.data_dir], check=True)


@pytest.fixture
def server(base, known, built, request):
    """A server of the earlier version with both images, which leaves microVMs running."""
    name = f"upgrade-{request.node.name.translate(str.maketrans('[]', '--'))}"
    server = be_old(Server(copy_data_dir(built, base / name), known, base, name))
    server.on_stop = None
    yield server.start()
    be_new(server).end()
    subprocess.run(["rm", "-rf", server.data_dir], check=True)


def old_files(server: Server) -> list[str]:
    return sorted(path.name for name in OLD_FILES for path in (server.data_dir / "microvms").glob(f"*/{name}"))


def image_files(server: Server) -> dict[str, tuple]:
    """What changes of an image's file when it is written, of every one."""
    files = [path for path in (server.data_dir / "images").rglob("*") if path.is_file()]
    return {str(path): (about.st_ino, about.st_mtime_ns, about.st_size) for path in files for about in [path.stat()]}


def wake(guest: Busy) -> None:
    """A suspended one goes on where it was, with a token of before."""
    microvm = guest.microvm
    assert microvm.state == "SUSPENDED", microvm.get()
    guest.counts += 1
    assert microvm.count() == guest.counts
    assert guest.same()[0].split()[0] == guest.facts[0].split()[0], "it was started again"
    assert microvm.request("/file").text == "kept"
    wait_until(lambda: guest.number() > guest.left_at, 30, "the sequence goes on")
    guest.facts = guest.same()


class Account:
    """What an account has beside images and microVMs."""

    def __init__(self, clients: Clients):
        iam = clients.boto("iam")
        iam.create_user(UserName="ann")
        iam.put_user_policy(UserName="ann", PolicyName="p", PolicyDocument=policy(allow(["lambda:List*", "sts:AssumeRole"])))
        key = iam.create_access_key(UserName="ann")["AccessKey"]
        self.user = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
        role = iam.create_role(RoleName="operator", AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
        iam.put_role_policy(RoleName="operator", PolicyName="p", PolicyDocument=policy(allow("lambda:GetMicrovm*")))
        made = clients.boto("sts", **self.user).assume_role(RoleArn=role, RoleSessionName="before")["Credentials"]
        self.session = {"aws_access_key_id": made["AccessKeyId"], "aws_secret_access_key": made["SecretAccessKey"],
                        "aws_session_token": made["SessionToken"]}
        self.connector = clients.core.create_network_connector(
            Name="out", Configuration=egress("subnet-1"), OperatorRole=f"arn:aws:iam::{ACCOUNT}:role/network")["Arn"]
        clients.logs.create_log_group(logGroupName="/own", tags={"team": "red"})
        clients.logs.create_log_stream(logGroupName="/own", logStreamName="one")
        clients.logs.put_log_events(logGroupName="/own", logStreamName="one", logEvents=[
            {"timestamp": int(time.time() * 1000), "message": "of before"}])
        self.told = self.tell(clients)
        assert self.told["build"] and self.told["own"] == ["of before"]

    def tell(self, clients: Clients) -> dict:
        """What the APIs say of it."""
        iam = clients.boto("iam")
        connector = clients.core.get_network_connector(Identifier=self.connector)
        wait_until(lambda: clients.core.get_network_connector(Identifier=self.connector)["State"] == "ACTIVE", 30, "it is active")
        return {
            "connector": (connector["Name"], connector["Arn"], connector["Configuration"]),
            "user": iam.get_user_policy(UserName="ann", PolicyName="p")["PolicyDocument"],
            "role": iam.get_role(RoleName="operator")["Role"]["AssumeRolePolicyDocument"],
            "group": clients.logs.list_tags_log_group(logGroupName="/own")["tags"],
            "own": clients.log_lines("/own"),
            "build": [line for line in clients.log_lines("/aws/lambda-microvms/probe") if "build says" in line],
        }

    def check(self, clients: Clients, image: str) -> None:
        assert self.tell(clients) == self.told
        assert clients.boto("lambda-microvms", **self.user).list_microvm_images()["items"]
        session = clients.boto("lambda-microvms", **self.session)
        assert session.get_microvm_image(imageIdentifier=image)["imageArn"] == image


class Population:
    """MicroVMs in every state that lasts, and a build under way."""

    def __init__(self, clients: Clients):
        self.probe, self.hooks = clients.image_arn("probe"), clients.image_arn("hooks")
        self.busy = [Busy(clients, self.probe, counts) for counts in (1, 2, 3)]
        self.running, self.resumed, self.suspended = self.busy
        self.hooked = clients.run(self.hooks, runHookPayload=PAYLOAD, ingressNetworkConnectors=HTTP_AND_SHELL)
        self.shell_token = shell_token(self.hooked)
        self.before = ["started", "begin run", "end run"]
        assert log(self.hooked) == self.before
        self.resumed.leave()
        self.resumed.microvm.suspend()
        wake(self.resumed)
        self.suspended.leave()
        self.suspended.microvm.suspend()
        self.account = Account(clients)
        self.files = image_files(clients.server)
        self.unfinished = clients.create_image("unfinished", "s3://code/probe.zip")
        self.build = wait_until(lambda: self.builds(clients), 60, "there is a build")[0]["buildId"]
        wait_until(lambda: self.builds(clients)[0]["buildState"] == "IN_PROGRESS", 120, "the build is under way")
        self.leave()

    def leave(self) -> None:
        for guest in (self.running, self.resumed):
            guest.leave()

    @property
    def microvms(self) -> list[Microvm]:
        return [*(guest.microvm for guest in self.busy), self.hooked]

    def builds(self, clients: Clients) -> list[dict]:
        return clients.microvms.list_microvm_image_builds(imageIdentifier=self.unfinished, imageVersion="1.0")["items"]

    def check(self, clients: Clients, stayed: bool) -> None:
        """All is there, and nothing was done again."""
        for guest in (self.running, self.resumed):
            guest.check(clients) if stayed else wake(guest)
        wake(self.suspended)
        if not stayed:
            self.before += ["begin suspend", "end suspend", "begin resume", "end resume"]
        assert log(self.hooked) == self.before
        assert json.loads(self.hooked.request("/body").text)["runHookPayload"] == PAYLOAD
        with contextlib.closing(Shell(self.hooked, token=self.shell_token)) as shell:
            assert shell.run("head -n 1 /log") == "started"
        self.account.check(clients, self.probe)

    def check_images(self, clients: Clients) -> None:
        files = image_files(clients.server)
        assert {path: files.get(path) for path in self.files} == self.files
        assert {clients.image_state(arn) for arn in (self.probe, self.hooks)} == {"CREATED"}
        assert clients.image_state(self.unfinished) == "CREATE_FAILED"
        build = self.builds(clients)[0]
        assert build["buildState"] == "FAILED" and "stopped" in build["stateReason"], build
        fresh = clients.run(self.hooks, runHookPayload="another")
        assert json.loads(fresh.request("/body").text)["runHookPayload"] == "another"
        fresh.terminate()

    def check_lives(self, clients: Clients) -> None:
        """What can be done with microVMs can be done with each of them."""
        for guest in self.busy:
            guest.leave()
            guest.microvm.suspend()
            wake(guest)
        self.hooked.suspend()
        assert self.hooked.request("/two").status == 200
        self.before += ["begin suspend", "end suspend", "begin resume", "end resume", "request /two"]
        assert log(self.hooked) == self.before


ENDS = {"sigterm": Server.stop, "sigkill": Server.kill, "suspended": Server.stop}


@pytest.mark.parametrize("how", ENDS)
def test_a_directory_of_the_earlier_version_is_taken_over(server, how):
    if how == "suspended":
        server.stop()
        server.on_stop = "suspend"
        server.start()
    population = Population(Clients(server))
    ENDS[how](server)
    stayed = how != "suspended"
    assert old_files(server) or not stayed
    server.on_stop = None
    clients = again(be_new(server), *population.microvms)
    assert old_files(server) == []
    population.check(clients, stayed)
    population.check_images(clients)
    for microvm in population.microvms:
        found = all_of(clients, microvm.id)
        assert found[0]["what"] == "OWNER" and found[0]["cause"] == "HOST", found
    population.check_lives(clients)
    end(server, *population.microvms)


def test_steps_under_way_are_finished(server):
    clients = Clients(server)
    probe, hooks = clients.image_arn("probe"), clients.image_arn("hooks")
    plan = "run=wait suspend=wait resume=wait terminate=wait"
    suspending, resuming, ending = [clients.run(hooks, runHookPayload=plan) for _ in range(3)]
    writing = Busy(clients, probe, 1)
    writing.microvm.request("/touch?mib=64")
    writing.leave()
    resuming.suspend()
    for microvm in (suspending, resuming):
        microvm.headers()
    # Each of them takes two seconds.
    launching = clients.run(hooks, wait=False, runHookPayload=plan)
    clients.microvms.resume_microvm(microvmIdentifier=resuming.id)
    clients.microvms.suspend_microvm(microvmIdentifier=suspending.id)
    clients.microvms.suspend_microvm(microvmIdentifier=writing.microvm.id)
    clients.microvms.terminate_microvm(microvmIdentifier=ending.id)
    server.kill()
    with contextlib.closing(sqlite3.connect(f"file:{server.data_dir / 'hearth.db'}?mode=ro", uri=True)) as database:
        left = dict(database.execute("SELECT id, state FROM microvms"))
    assert [left[one.id] for one in (launching, resuming, suspending, ending)] == [
        "PENDING", "PENDING", "SUSPENDING", "TERMINATING"]
    assert left[writing.microvm.id] in ("SUSPENDING", "SUSPENDED")

    clients = again(be_new(server), launching, resuming, suspending, ending, writing.microvm)
    assert old_files(server) == []
    launching.wait_state("RUNNING")
    assert json.loads(launching.request("/body").text)["runHookPayload"] == plan
    resuming.wait_state("RUNNING")
    assert log(resuming)[:4] == ["started", "begin run", "end run", "begin suspend"]
    suspending.wait_state("SUSPENDED")
    assert log(suspending)[:4] == ["started", "begin run", "end run", "begin suspend"]
    writing.microvm.wait_state("SUSPENDED")
    wake(writing)
    ending.wait_state("TERMINATED")
    assert ending.get()["stateReason"] == "Success."
    end(server, launching, resuming, suspending, writing.microvm)


def contents(server: Server) -> dict:
    """What a data directory holds, without what running guests write, and who has opened it last."""
    with contextlib.closing(sqlite3.connect(f"file:{server.data_dir / 'hearth.db'}?mode=ro", uri=True)) as database:
        rows = list(database.iterdump())
    found = {"rows": rows}
    for path in server.data_dir.rglob("*"):
        about = path.lstat()
        own = path.relative_to(server.data_dir).parts
        if own[0] in ("microvms", "run") or path.name == "disk.qcow2":
            found[str(path)] = about.st_ino
        elif not path.is_dir() and path.name != "lock" and not path.name.startswith("hearth.db"):
            found[str(path)] = (about.st_ino, about.st_mtime_ns, about.st_size)
    return found


def test_the_earlier_version_refuses_what_it_does_not_know(server):
    clients = Clients(server)
    running, suspended = [Busy(clients, clients.image_arn("probe"), 1) for _ in range(2)]
    suspended.leave()
    suspended.microvm.suspend()
    server.stop()
    again(be_new(server), running.microvm, suspended.microvm)
    running.leave()
    server.stop()
    before = contents(server)
    said = be_old(server).refuses().splitlines()[-1]
    assert re.fullmatch("hearth: cannot bring the database schema up to date: migration 12 was previously applied but is missing .*", said)
    assert contents(server) == before
    clients = again(be_new(server), running.microvm, suspended.microvm)
    running.check(clients)
    wake(suspended)
    end(server, running.microvm, suspended.microvm)

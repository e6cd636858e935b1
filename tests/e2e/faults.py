"""What the fault suite injects and holds against a model: lives of microVMs, and the count
of what was lost."""
import collections
import contextlib
import http.client
import os
import random
import threading

from botocore.exceptions import BotoCoreError, ClientError

from endpoint import Clients, Microvm
from harness import wait_until

SETTLED = ("RUNNING", "SUSPENDED", "TERMINATED")
# What a client sees of a server that was killed: no answer, half an answer, nobody to connect to.
CUT_OFF = (OSError, http.client.HTTPException, BotoCoreError)

# Kind of fault -> injected, survived. What was not survived has failed its test.
TALLY: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)


@contextlib.contextmanager
def fault(kind: str, count: int = 1):
    """Counts faults: injected at once, survived when everything that was checked
    afterwards held."""
    TALLY[kind]["injected"] += count
    yield
    TALLY[kind]["survived"] += count


def summary() -> list[str]:
    """The table of docs/reliability.md."""
    rows = [f"{'fault':<52} {'injected':>8} {'survived':>8} {'lost':>5}"]
    for kind, counts in TALLY.items():
        lost = counts["injected"] - counts["survived"]
        rows.append(f"{kind:<52} {counts['injected']:>8} {counts['survived']:>8} {lost:>5}")
    return rows


class Life:
    """One microVM after the other, each with a counter in its memory and a file on its
    disk. What was acknowledged is known; of what was under way when the server went, either
    half may be true."""

    def __init__(self, image: str, random_source: random.Random):
        self.image, self.random = image, random_source
        self.microvm: Microvm | None = None
        self.reset()

    def reset(self) -> None:
        self.counted, self.counting = 0, False
        self.file, self.writing = None, None
        self.ending = False
        self.microvm = None

    def act(self, clients: Clients) -> None:
        """One random action. Raises one of CUT_OFF when the server goes meanwhile."""
        if self.microvm is None:
            self.microvm = clients.run(self.image, wait=False)
            return
        self.microvm.clients = clients
        actions, weights = zip((self.count, 6), (self.write, 4), (self.suspend, 3), (self.resume, 2), (self.end, 0.5))
        self.random.choices(actions, weights)[0]()

    def count(self) -> None:
        self.counting = True
        answer = self.microvm.request("/count")
        assert answer.status == 200, (answer, self.microvm.get())
        assert int(answer.text) == self.counted + 1, "the counter has lost or gained a step"
        self.counted, self.counting = self.counted + 1, False

    def write(self) -> None:
        self.writing = self.random.randbytes(self.random.choice((10, 4096, 200_000)))
        answer = self.microvm.request("/file", "PUT", self.writing)
        assert answer.status in (200, 201, 204), (answer, self.microvm.get())
        self.file, self.writing = self.writing, None

    def suspend(self) -> None:
        self.change("suspend_microvm")

    def resume(self) -> None:
        self.change("resume_microvm")

    def change(self, operation: str) -> None:
        # A 409 while it is at something else is an honest answer.
        with contextlib.suppress(self.microvm.clients.microvms.exceptions.ConflictException):
            getattr(self.microvm.clients.microvms, operation)(microvmIdentifier=self.microvm.id)

    def end(self) -> None:
        self.ending = True
        self.microvm.terminate()
        self.reset()

    def check(self, clients: Clients) -> None:
        """Everything acknowledged is there, and the record is true."""
        if self.microvm is None:
            return
        self.microvm.clients = clients
        known = self.microvm.get()
        self.microvm.endpoint = known["endpoint"]
        state = self.microvm.wait_state(*SETTLED, timeout=60)
        if state == "TERMINATED":
            assert self.ending, f"{self.microvm.id} was lost: {self.microvm.get().get('stateReason')}"
            assert self.microvm.get()["stateReason"] == "Success."
            assert self.microvm.vmm() is None
            self.reset()
            return
        assert (self.microvm.vmm() is None) == (state == "SUSPENDED"), state
        counted = self.microvm.count()
        assert counted - 1 in {self.counted, self.counted + self.counting}, (counted, self.counted, self.counting)
        self.counted, self.counting = counted, False
        if self.file is not None or self.writing is not None:
            answer = self.microvm.request("/file")
            found = answer.body if answer.status == 200 else None
            assert found in (self.file, self.writing), "the file is neither the one before nor the one after"
            self.file, self.writing = found, None

    def finish(self) -> None:
        if self.microvm is not None:
            self.end()


class Busy:
    """Lives that are led at the same time, until the server goes or somebody says stop."""

    def __init__(self, lives: list[Life], clients: Clients):
        self.stopping, self.failures = threading.Event(), []
        self.threads = [threading.Thread(target=self.lead, args=(life, clients)) for life in lives]
        for thread in self.threads:
            thread.start()

    def lead(self, life: Life, clients: Clients) -> None:
        try:
            while not self.stopping.is_set():
                life.act(clients)
        except CUT_OFF as error:
            if not self.stopping.is_set():
                self.failures.append(error)
        except (AssertionError, ClientError) as error:
            self.failures.append(error)

    def stop(self) -> None:
        self.stopping.set()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(120)
            assert not thread.is_alive(), "an action does not come to its end"
        assert not self.failures, self.failures


def end_strangers(clients: Clients, known: set[str]) -> None:
    """Ends microVMs that were recorded without anybody having been told of them."""
    pages = clients.microvms.get_paginator("list_microvms").paginate()
    listed = [item for page in pages for item in page["items"] if item["state"] != "TERMINATED"]
    for item in listed:
        if item["microvmId"] not in known:
            microvm = Microvm(clients, item["microvmId"], "")
            microvm.wait_state(*SETTLED, timeout=60)
            microvm.terminate()


def resident_mib(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def answers(microvm: Microvm) -> bool:
    """Whether a microVM that nobody touches answers."""
    return wait_until(lambda: microvm.request("/count").status == 200, 30, "a neighbour answers")

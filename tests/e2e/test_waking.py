"""Clients that keep their connections while a microVM is suspended again and again notice nothing
of it: whatever meets what, each request is answered by the app, which gets it once."""
import collections
import contextlib
import itertools
import os
import random
import threading
import time

from kept import KeptHttp1, KeptHttp2

# A longer run is for looking for what is rare.
SECONDS = float(os.environ.get("HEARTH_WAKING_SECONDS", "15"))


def ask(client, numbers, over: threading.Event, sent: list[bytes], faults: list[str], seed: int) -> None:
    """Posts numbers until it is over; whatever is not the app's answer is a fault."""
    pauses = random.Random(seed)
    while not over.is_set():
        bodies = [b"%d" % next(numbers) for _ in range(client.at_once)]
        sent += bodies
        began = time.time()
        try:
            answers = client.post(*bodies)
        except Exception as error:
            faults.append(f"{bodies} at {began:.3f}, {time.time() - began:.3f} s: {error!r}")
            return
        for body, answer in zip(bodies, answers):
            if answer != (200, body):
                faults.append(f"{body} at {began:.3f}, {time.time() - began:.3f} s: {answer}")
        time.sleep(pauses.choice((0, 0.01, 0.1, 0.5)) * pauses.random())


def suspend_again_and_again(microvm, until: float) -> int:
    """At moments that are random, also while it wakes, when it is refused. How often
    it was accepted."""
    pauses, accepted = random.Random(7), 0
    service = microvm.clients.microvms
    while time.monotonic() < until:
        time.sleep(pauses.choice((0.02, 0.3, 1)) * pauses.random())
        with contextlib.suppress(service.exceptions.ConflictException):
            service.suspend_microvm(microvmIdentifier=microvm.id)
            accepted += 1
    return accepted


def test_kept_connections_notice_nothing_of_suspends(run):
    microvm = run()
    numbers, over, sent, faults = itertools.count(), threading.Event(), [], []
    with contextlib.ExitStack() as ends:
        kinds = [KeptHttp1, KeptHttp1, KeptHttp1, KeptHttp2, KeptHttp2]
        clients = [ends.enter_context(contextlib.closing(kind(microvm))) for kind in kinds]
        threads = [threading.Thread(target=ask, args=(client, numbers, over, sent, faults, seed))
                   for seed, client in enumerate(clients)]
        for thread in threads:
            thread.start()
        suspends = suspend_again_and_again(microvm, time.monotonic() + SECONDS)
        over.set()
        for thread in threads:
            thread.join()
    print(f"{len(sent)} POSTs, {suspends} calls of SuspendMicrovm, {len(faults)} faults")
    assert not faults, "\n".join(faults)
    got = collections.Counter(microvm.sh("cat /var/tmp/record").encode().split())
    assert {number: got[number] for number in sent if got[number] != 1} == {}, "got another number of times than once"
    assert got.total() == len(sent)
    assert suspends >= 3 and len(sent) >= 10, "hardly anything was tried"

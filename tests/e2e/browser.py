"""A browser that trusts a server's authority, and a local port for its pages."""
import contextlib
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

from endpoint import Microvm
from harness import HEARTH

CHROMIUM = shutil.which("chromium")


@contextlib.contextmanager
def home(ca_bundle: str):
    """A home directory in which Chromium finds the authority among those that its user trusts."""
    with tempfile.TemporaryDirectory(prefix="hearth-browser-", ignore_cleanup_errors=True) as directory:
        database = pathlib.Path(directory, ".pki/nssdb")
        database.mkdir(parents=True)
        certutil = ["certutil", "-d", f"sql:{database}"]
        subprocess.run([*certutil, "-N", "--empty-password"], check=True)
        subprocess.run([*certutil, "-A", "-n", "hearth", "-t", "C,,", "-i", ca_bundle], check=True)
        yield directory


@contextlib.contextmanager
def forwarding(server, microvm: Microvm, *ports: str, options: tuple[str, ...] = ()):
    """Runs `hearth forward`; the local ports, in order."""
    process = subprocess.Popen([HEARTH, "forward", *options, microvm.id, *ports], env=server.env(), text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        lines = [process.stdout.readline() for _ in ports]
        found = [re.fullmatch(r"http://localhost:(\d+) -> port (\d+)\n", line) for line in lines]
        assert all(found), (lines, process.poll())
        assert [match[2] for match in found] == [port.split(":")[-1] for port in ports]
        yield [int(match[1]) for match in found]
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)

"""A real `hearth serve`, started and stopped by tests, and what can be seen of it from the host."""
import contextlib
import errno
import os
import pathlib
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEARTH = pathlib.Path(os.environ.get("HEARTH_BIN", ROOT / "target/release/hearth"))
VENV_BIN = pathlib.Path(os.environ.get("VIRTUAL_ENV") or pathlib.Path(os.sys.executable).parent.parent) / "bin"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "hearth"
# Where scripts/clients.sh puts the app that speaks every protocol, and its clients.
PROTOCOLS = CACHE / "clients/protocols"
ARTIFACTS = ROOT / "target/test-artifacts"
ACCOUNT, REGION = "000000000000", "us-east-1"
# Two builds at a time, each on one vCPU: on two the emulator would take half as much CPU time more.
BUILD = {"concurrent_builds": 2, "vcpus": 1}
# Tests send more than a client of one microVM may; the limits have tests of their own.
UNLIMITED = {"endpoint": dict.fromkeys(
    ("connections_per_vcpu", "requests_per_second_per_vcpu", "bytes_per_second_per_vcpu"), 0)}

# Where servers get the addresses of their uplinks, unless a test says otherwise. The other half of
# the default range is footprint.py's, which must find nobody else's links in it.
NETWORK = {"address_range": "198.18.0.0/16"}


def wait_until(predicate, timeout: float, what: str, pause: float = 0.05):
    """Asks until the answer is true, and returns it; fails with `what` at the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        if answer := predicate():
            return answer
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(pause)


def toml(settings: dict) -> str:
    """The few forms of TOML that a configuration needs."""
    def value(item) -> str:
        match item:
            case bool():
                return str(item).lower()
            case int():
                return str(item)
            case list():
                return "[" + ", ".join(map(value, item)) + "]"
            case dict():
                return "{" + ", ".join(f'"{key}" = {value(entry)}' for key, entry in item.items()) + "}"
            case _:
                return f"'{item}'"
    plain = [f"{key} = {value(item)}" for key, item in settings.items() if not isinstance(item, dict)]
    for table, entries in settings.items():
        if isinstance(entries, dict):
            plain += [f"[{table}]", *(f"{key} = {value(item)}" for key, item in entries.items())]
    return "\n".join(plain) + "\n"


class Server:
    """A server process on free ports. Its log is kept when a test fails."""

    def __init__(self, data_dir: pathlib.Path, settings: dict, base: pathlib.Path, name: str = "server"):
        self.data_dir, self.settings = data_dir, UNLIMITED | settings
        self.log_path, self.config_path = base / f"{name}.log", base / f"{name}.toml"
        self.program, self.api_addr, self.endpoint_addr = HEARTH, "127.0.0.1:0", "127.0.0.1:0"
        # What it finds in its environment beside that of the tests.
        self.environment: dict[str, str] = {}
        # What SIGTERM does to running microVMs; None is the program's own default.
        self.on_stop: str | None = "suspend"
        self.process: subprocess.Popen | None = None

    def command(self) -> list[str]:
        self.config_path.write_text(toml(self.settings))
        return [str(self.program), "serve", "--data-dir", str(self.data_dir), "--api-addr", self.api_addr,
                "--endpoint-addr", self.endpoint_addr, "--config", str(self.config_path),
                *(["--on-stop", self.on_stop] if self.on_stop else [])]

    def start(self, wait: bool = True) -> "Server":
        with open(self.log_path, "a") as log:
            # A session of its own, so that Ctrl-C reaches only pytest, which then stops the server
            # in order. The PATH is an ordinary user's, who has no sbin in it.
            self.process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, stderr=log, text=True,
                                            start_new_session=True, env=self.surroundings())
        if wait:
            line = self.process.stdout.readline()
            assert line.startswith("hearth ready"), self.log_path.read_text()[-2000:]
            self.ready_line = line.strip()
            self.api_url, endpoints = re.fullmatch(r"hearth ready api=(\S+) endpoints=(\S+)", self.ready_line).groups()
            self.endpoint_port = int(endpoints.rsplit(":", 1)[1])
        return self

    def surroundings(self) -> dict[str, str]:
        return os.environ | {"PATH": "/usr/bin:/bin"} | self.environment

    def refuses(self, *prefix: str) -> str:
        """Starts it where it must not start; what it says on standard error."""
        done = subprocess.run([*prefix, *self.command()], capture_output=True, text=True, timeout=60,
                              env=os.environ | self.environment)
        assert done.returncode == 1, done
        assert done.stdout == ""
        return done.stderr.strip()

    def stop(self, timeout: float = 60) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout: float = 60) -> int:
        """The exit status; a server that does not end fails the test."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not stop within {timeout:g} s") from None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Stops it so that nothing is left on the host, whatever it has been told to do with
        running microVMs."""
        if self.running and self.on_stop == "suspend":
            self.stop()
            return
        if self.running:
            self.kill()
        for record in (self.data_dir / "run").glob("*/vmm.json"):
            for pid in processes(record.parent.name):
                os.kill(pid, signal.SIGKILL)
        # What a killed server has left goes with the next one.
        self.on_stop = "suspend"
        if any((self.data_dir / "run").glob("*")):
            self.start().stop()

    def memory(self, member: str) -> int:
        """Bytes of memory that the process has (proc_pid_status(5))."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(f"{member}:")[1].split()[0]) * 1024

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def env(self) -> dict[str, str]:
        """What `hearth env` tells AWS clients, on top of an environment without any
        other credentials."""
        lines = subprocess.run([self.program, "env", "--data-dir", self.data_dir], capture_output=True, text=True, check=True)
        told = dict(re.findall(r"^export (\w+)='?(.*?)'?$", lines.stdout, re.MULTILINE))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return kept | told | {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}

    def account_keys(self, account: str) -> dict[str, str]:
        """boto3's arguments with the keys of a further account's root user, as
        `hearth env` tells them."""
        command = [self.program, "env", "--data-dir", self.data_dir, "--account", account]
        lines = subprocess.run(command, capture_output=True, text=True, check=True)
        told = dict(re.findall(r"^export (\w+)='?(.*?)'?$", lines.stdout, re.MULTILINE))
        return {"aws_access_key_id": told["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": told["AWS_SECRET_ACCESS_KEY"]}


def snapshot_of(holder: pathlib.Path) -> pathlib.Path | None:
    """The snapshot of a microVM or of an image version, by its directory."""
    reference = holder / "snapshot.json"
    data_dir = next(parent for parent in holder.parents if (parent / "hearth.db").exists())
    if not reference.exists():
        return None
    [found] = [path for path in (data_dir / "snapshots").iterdir() if (path / "manifest.json").samefile(reference)]
    return found


def unreferenced(data_dir: pathlib.Path) -> list[str]:
    """Snapshots that nothing refers to: their manifests have no other link."""
    found = []
    for snapshot in (data_dir / "snapshots").iterdir():
        # One that is merged makes room for another meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if (snapshot / "manifest.json").stat().st_nlink < 2:
                found.append(snapshot.name)
    return found


def copy_data_dir(source: pathlib.Path, to: pathlib.Path, link: bool = True, images: set[str] | None = None) -> pathlib.Path:
    """A data directory with the same images, or those of these names, and no microVMs. The source's
    server may be running: the database is copied through SQLite, and images never change."""
    to.mkdir(mode=0o700)
    with (contextlib.closing(sqlite3.connect(source / "hearth.db")) as live,
          contextlib.closing(sqlite3.connect(to / "hearth.db")) as copy):
        live.backup(copy)
        copy.execute("PRAGMA foreign_keys = ON")
        copy.execute("DELETE FROM microvms")
        if images is not None:
            copy.execute(f"DELETE FROM images WHERE name NOT IN ({', '.join('?' * len(images))})", tuple(images))
        copied = [f"images/{account}/{name}" for account, name in copy.execute("SELECT account, name FROM images")]
        copy.commit()
    (to / "hearth.db").chmod(0o600)
    arguments = ["--link"] if link else ["--sparse=always", "--reflink=auto"]
    (to / "images").mkdir(mode=0o700)
    versions = [version for name in copied for version in (source / name).glob("*")]
    snapshots = {f"snapshots/{snapshot.name}" for version in versions for snapshot in [snapshot_of(version)] if snapshot}
    for name in (*copied, *snapshots, "s3"):
        (to / name).parent.mkdir(mode=0o700, exist_ok=True)
        # An image whose builds have all failed has no files.
        if (source / name).exists():
            subprocess.run(["cp", "-a", *arguments, source / name, to / name], check=True)
    for name in snapshots:
        # Its links are its references: those of this directory alone.
        manifest = to / name / "manifest.json"
        shutil.copy2(manifest, manifest.with_suffix(".copy"))
        manifest.with_suffix(".copy").rename(manifest)
    for name in ("credentials.json", "endpoint-token-key.json"):
        shutil.copy2(source / name, to / name)
    return to


def files_with(text: str, directory: pathlib.Path) -> list[str]:
    """The files below the directory that hold this text. Their holes are not read."""
    def parts(path: pathlib.Path):
        at, end = 0, path.stat().st_size
        with open(path, "rb", buffering=0) as file:
            while at < end:
                try:
                    begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
                except OSError as error:
                    assert error.errno == errno.ENXIO, error
                    return
                at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
                file.seek(begin)
                yield file.read(at - begin)
    return [str(path) for path in directory.rglob("*") if path.is_file() and any(text.encode() in part for part in parts(path))]


def processes(name: str) -> list[int]:
    """Processes of VMMs whose command line has this name (a microVM's id, or a run directory)."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # It ended while we looked.
            if b"qemu" in command[0] and any(name.encode() in argument for argument in command):
                found.append(int(entry.name))
    return found


@contextlib.contextmanager
def printing(command: list[str], env: dict[str, str]):
    """Runs a command that does not end; the lines that it has printed so far."""
    process = subprocess.Popen(command, env=env | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []

    def read():
        for line in process.stdout:
            lines.append(line)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield lines
    finally:
        process.terminate()
        process.wait(30)
        reader.join()

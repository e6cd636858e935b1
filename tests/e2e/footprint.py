"""What a server leaves on the host outside of its own process: found by an address range and user
ids that the test gives to it alone."""
import contextlib
import os
import pathlib
import re
import sqlite3
import subprocess

from harness import Server
from harness import processes as vmms_named

# Of several processes that share the tests (pytest-xdist) each has its own.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
RANGE, FIRST_UID = f"198.19.{213 + WORKER}", 1_913_000_000 + 0x10_0000 * WORKER
SETTINGS = {"network": {"address_range": f"{RANGE}.0/24"}, "guest": {"first_uid": FIRST_UID}}
LAST_UID = FIRST_UID + 0x1_0000
# Namespaces of tests, which may run in another process (network.py).
OUTSIDE_WORLDS = "/netns/hearth-e2e-"


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def owner(pid: str) -> int:
    """User of a process; -1 of one that has ended, even if its parent has not asked
    for its status yet."""
    try:
        zombie = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        return -1 if zombie else os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return -1


def ids(server: Server) -> list[str]:
    """Ids of every microVM and build that the server has recorded: names of cgroups and of VMMs."""
    # Closed, unlike by sqlite3's own context: the file system may be unmounted next.
    with contextlib.closing(sqlite3.connect(f"file:{server.data_dir / 'hearth.db'}?mode=ro", uri=True)) as database:
        return [row[0] for table in ("microvms", "image_builds") for row in database.execute(f"SELECT id FROM {table}")]


def processes() -> list[int]:
    """VMMs. With the last process of a namespace the namespace goes, unless something is
    mounted to hold it."""
    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and FIRST_UID <= owner(pid) < LAST_UID]


def vmm_named(prefix: str) -> bool:
    """Whether a VMM runs for a build, or for a microVM, whose name begins so."""
    own = set(processes())
    return any(pid in own for pid in vmms_named(f"{prefix}-"))


def footprint(server: Server) -> dict[str, list]:
    """By kind, what there is now."""
    names = "|".join(map(re.escape, ids(server))) or "nothing"
    data_dir = server.data_dir
    found = {
        "processes": processes(),
        "rules": [line for line in output("nft", "list", "ruleset").splitlines() if f"{RANGE}." in line],
        "links": [line for line in output("ip", "-o", "-4", "address").splitlines() if f" {RANGE}." in line],
        "mounts": [line for line in open("/proc/self/mountinfo") if f"{data_dir}/" in line
                   or ("nsfs" in line and OUTSIDE_WORLDS not in line)],
        "cgroups": [str(path) for path in pathlib.Path("/sys/fs/cgroup").glob("**/hearth/*") if re.search(names, path.name)],
        "files": [str(path) for name in ("run", "builds") for path in (data_dir / name).glob("*")]
        + [str(path) for path in data_dir.rglob("*") if path.suffix in (".new", ".tmp", ".part")],
    }
    return {kind: things for kind, things in found.items() if things}

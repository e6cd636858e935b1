"""The images that most tests start from: built once, and kept between sessions in a data directory
under the cache, by a key of everything that they come from.

Tests of builds do not use them: they build.
"""
import base64
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable

from artifact import zipped
from endpoint import Clients
from harness import BUILD, CACHE, NETWORK, PROTOCOLS, ROOT, Server, copy_data_dir
from network import HOLD_PORT, PUBLIC, outside_world

APPS = pathlib.Path(__file__).parent / "apps"
KEPT = CACHE / "test-images"
# Data directories that are kept: today's, and that of another branch.
ENVIRONMENTS = 2
CA_CERTIFICATES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
# What writes an image's files, beside the programs of the guest. Its records may be those of an
# earlier version, which every server takes over.
CRATES = ("guest", "image-builder", "pagemap", "snapshots", "vmm")
# Seconds that the hooks may take; a guest without KVM on a busy machine needs some.
HOOK_TIMEOUTS = {"run": 8, "resume": 5, "suspend": 5, "terminate": 5}
PROTOCOLS_DOCKERFILE = """
FROM debian:trixie-slim
COPY protocols screen.tar /
RUN tar -x --skip-old-files --keep-directory-symlink -f /screen.tar ./etc/vim ./usr && rm /screen.tar && ln -s vim.tiny /usr/bin/vi
ENTRYPOINT ["/protocols"]
"""


def contents(*paths: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in paths}


def probe() -> dict[str, bytes]:
    return contents(*(APPS / "probe").iterdir(), ROOT / "examples/perl-counter/app.pl")


def protocols() -> dict[str, bytes]:
    program, screen = (PROTOCOLS / "app").read_bytes(), (PROTOCOLS / "screen.tar").read_bytes()
    return {"Dockerfile": PROTOCOLS_DOCKERFILE.encode(), "protocols": program, "screen.tar": screen}


def hooks() -> dict[str, bytes]:
    return contents(*(APPS / "hooks").iterdir())


def snapshot() -> dict[str, bytes]:
    files = contents(*(APPS / "snapshot").iterdir(), APPS / "probe/probe.pl", CACHE / "guest/1/builder/usr/bin/openssl")
    # With all their libraries, which may be of another Debian than the image.
    for tool in map(shutil.which, ("nft", "ip")):
        linked = subprocess.run(["ldd", tool], capture_output=True, text=True, check=True).stdout
        for file in map(pathlib.Path, [tool, *re.findall(r"(/\S+) \(", linked)]):
            name = "ld.so" if file.name.startswith("ld-linux") else file.name
            files[f"tools/{name}"] = file.read_bytes()
    return files | {"key.pem": private_key()}


def private_key() -> bytes:
    """A key of nobody's on the curve P-256, the same each time (RFC 5915)."""
    number = hashlib.sha256(b"the key in the image of test_snapshot.py").digest()
    der = bytes.fromhex("303102010104 20") + number + bytes.fromhex("a00a06082a8648ce3d030107")
    lines = textwrap.wrap(base64.b64encode(der).decode(), 64)
    return "\n".join(["-----BEGIN EC PRIVATE KEY-----", *lines, "-----END EC PRIVATE KEY-----", ""]).encode()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an image is made."""

    # Of the fixture whose users need it.
    fixture: str
    files: Callable[[], dict[str, bytes]]
    # Further arguments of CreateMicrovmImage.
    arguments: dict = dataclasses.field(default_factory=dict)
    # What has to be there while it is built.
    beside: Callable = contextlib.nullcontext

    def key(self) -> str:
        digest = hashlib.sha256(json.dumps([self.arguments, BUILD], sort_keys=True).encode())
        for name, data in sorted(self.files().items()):
            digest.update(f"{name} {len(data)}\n".encode() + data)
        return digest.hexdigest()


# Where the app of test_snapshot.py connects to before its snapshot.
OUTSIDE = {"environmentVariables": {"OUTSIDE": f"{PUBLIC}:{HOLD_PORT}"}}
_HOOKS = {"port": 9000, "microvmImageHooks": {"ready": "ENABLED", "readyTimeoutInSeconds": 60},
          "microvmHooks": {name: "ENABLED" for name in HOOK_TIMEOUTS}
          | {f"{name}TimeoutInSeconds": seconds for name, seconds in HOOK_TIMEOUTS.items()}}
RECIPES = {
    "probe": Recipe("image", probe, {"environmentVariables": {"PROBE_VERSION_ENV": "from the version"}}),
    "protocols": Recipe("protocols", protocols),
    "hooks": Recipe("hooked", hooks, {"hooks": _HOOKS}),
    "snapshot-all": Recipe("built", snapshot, OUTSIDE | {"additionalOsCapabilities": ["ALL"]}, outside_world),
}


@functools.cache
def environment() -> str:
    """Key of what every image comes from, whatever its code: programs, guest and machine."""
    guest, crates = CACHE / "guest/1", ROOT / "crates"
    sources = [path for crate in CRATES for path in (crates / crate).glob("src/**/*.rs")
               if not re.search("tests|fake", path.relative_to(crates).as_posix())]
    # A server does not take over the records of a later version.
    migrations = (crates / "store-sqlite/migrations").glob("*.sql")
    files = [CACHE / "initrd.img", CACHE / "initrd-all.img", guest / "manifest.json", CACHE / "bases/mirror.json", CA_CERTIFICATES,
             ROOT / "guest/store-image.sh", *sorted([*(ROOT / "guest").glob("*.py"), *sources, *migrations])]
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    emulator = f"qemu-system-{os.uname().machine}"
    digest.update(subprocess.run([emulator, "--version"], capture_output=True, check=True).stdout)
    cpu = re.findall(r"^(?:model name|flags|Features)\s*:.*", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)[:2]
    digest.update(repr((cpu, os.path.exists("/dev/kvm"), os.environ.get("HEARTH_ACCELERATOR"))).encode())
    return digest.hexdigest()[:16]


def put_into(directory: pathlib.Path, fixtures: set[str], base: pathlib.Path) -> None:
    """Makes the data directory of a server, with the images that these fixtures need."""
    wanted = {name: recipe for name, recipe in RECIPES.items() if recipe.fixture in fixtures}
    if not wanted:
        return
    KEPT.mkdir(parents=True, exist_ok=True)
    # Who comes while images are built waits for them.
    with open(KEPT / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        home = KEPT / environment()
        build_missing(home, wanted, base)
        os.utime(home)
        for old in sorted((path for path in KEPT.iterdir() if path.is_dir()), key=os.path.getmtime)[:-ENVIRONMENTS]:
            shutil.rmtree(old)
        link = home.stat().st_dev == directory.parent.stat().st_dev
        copy_data_dir(home / "data", directory, link, set(wanted))


def build_missing(home: pathlib.Path, wanted: dict[str, Recipe], base: pathlib.Path) -> None:
    """Builds those of the images that are not there, or whose code is another now."""
    list_path = home / "built.json"
    keys = {name: recipe.key() for name, recipe in wanted.items()}
    # It is written last: without it, a session was cut short.
    built = json.loads(list_path.read_text()) if list_path.exists() else None
    missing = [name for name in wanted if (built or {}).get(name) != keys[name]]
    if not missing:
        return
    if built is None:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
    list_path.unlink(missing_ok=True)
    settings = {"build": BUILD | {"ca_bundle": CA_CERTIFICATES}, "network": NETWORK}
    server = Server(home / "data", settings, base, "images").start()
    try:
        build(Clients(server), {name: wanted[name] for name in missing})
    finally:
        server.end()
    # What no copy takes along.
    shutil.rmtree(home / "data/build-cache")
    list_path.write_text(json.dumps((built or {}) | keys))


def build(clients: Clients, recipes: dict[str, Recipe]) -> None:
    with contextlib.suppress(clients.s3.exceptions.BucketAlreadyOwnedByYou):
        clients.s3.create_bucket(Bucket="code")
    with contextlib.ExitStack() as besides:
        for recipe in recipes.values():
            besides.enter_context(recipe.beside())
        for name, recipe in recipes.items():
            clients.delete_image(clients.image_arn(name))
            code = zipped(recipe.files(), executable={"protocols"})
            clients.s3.put_object(Bucket="code", Key=f"{name}.zip", Body=code)
            clients.create_image(name, f"s3://code/{name}.zip", **recipe.arguments)
        for name in recipes:
            state, reason = clients.wait_built(clients.image_arn(name), timeout=1200)
            assert state == "CREATED", f"{name}: {reason}"

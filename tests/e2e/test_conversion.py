"""What converts the layers of images (guest/store-image.sh, confine.py): reads what a registry
sends, and can do nothing else."""
import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

import pytest

GUEST = pathlib.Path(__file__).parents[2] / "guest"
# Far from those that the server gives to anybody.
UID = 0x4FF90000
MIB = 1 << 20

# Tries everything that a program which was taken over would try; prints what it is and the errors.
TRIES = """
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    return "done" if libc.syscall(*arguments) >= 0 else errno.errorcode[ctypes.get_errno()]
def attempt(what):
    try:
        what()
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
told = {name: status[name].split()[0] for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "NoNewPrivs", "Seccomp")}
told["ids"] = [*os.getresuid(), *os.getresgid(), *os.getgroups()]
told["environment"] = sorted(os.environ)
told["socket"] = attempt(lambda: socket.socket(socket.AF_INET))
told["unix"] = attempt(lambda: socket.socket(socket.AF_UNIX))
told["user namespace"] = call(NUMBERS["unshare"], 0x10000000)
told["clone of a namespace"] = call(NUMBERS["clone"], 0x10000000 | 17, 0, 0, 0, 0)
told["clone3"] = call(435, 0, 0)
told["mount"] = call(NUMBERS["mount"], b"tmpfs", b"/mnt", b"tmpfs", 0, 0)
told["device"] = attempt(lambda: os.mknod("/tmp/hearth-device", 0o20666, os.makedev(1, 3)))
told["process"] = attempt(lambda: os.waitpid(os.fork() or os._exit(0), 0))
print(told)
"""


def confine(program, *, seconds=60, memory=512 * MIB, file_bytes=MIB, check=True):
    command = ["/usr/bin/python3", "-I", GUEST / "confine.py", UID, seconds, memory, file_bytes, "/usr/bin/python3", "-c", program]
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120,
                            env={**os.environ, "SECRET": "x"})
    assert not check or result.returncode == 0, result.stderr
    return result


@pytest.fixture(autouse=True)
def root():
    if os.geteuid() != 0:
        pytest.skip("needs root")


def test_what_reads_layers_can_do_nothing_else():
    machine = "x86_64" if os.uname().machine == "x86_64" else "aarch64"
    numbers = {"x86_64": {"unshare": 272, "clone": 56, "mount": 165}, "aarch64": {"unshare": 97, "clone": 220, "mount": 40}}[machine]
    told = eval(confine(f"NUMBERS = {numbers}" + TRIES).stdout)
    none = "0" * 16
    assert told == {
        "CapEff": none, "CapPrm": none, "CapBnd": none, "CapInh": none, "NoNewPrivs": "1", "Seccomp": "2", "ids": [UID] * 6,
        "environment": ["LC_ALL", "PATH"], "socket": "EPERM", "unix": "EPERM", "user namespace": "EPERM",
        "clone of a namespace": "EPERM", "clone3": "ENOSYS", "mount": "EPERM", "device": "EPERM", "process": "done",
    }


@pytest.mark.parametrize("program, ends", [
    ("x = bytearray(8 << 30)", "MemoryError"),
    ("import tempfile; f = tempfile.TemporaryFile(); f.write(bytes(2 << 20)); f.flush()", "File too large"),
    ("import os\nwhile True: os.fork()", "BlockingIOError"),
    ("while True: pass", ""),
])
def test_limits_of_what_reads_layers(program, ends):
    result = confine(program, seconds=1, check=False)
    assert result.returncode != 0 and ends in result.stderr, result


def layout(directory, *layers, diff_id=None):
    """An OCI image layout of these plain tars; or of one that is packed already, if
    its digest is given."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    diff_ids = [diff_id or f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = blob(json.dumps({"rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode(), "config.v1+json")
    packed = [blob(layer if diff_id else gzip.compress(layer), "layer.v1.tar+gzip") for layer in layers]
    manifest = blob(json.dumps({"schemaVersion": 2, "config": config, "layers": packed}).encode(), "manifest.v1+json")
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o400)
        os.chown(path, UID, UID)


def convert(directory, tools=GUEST, **more):
    out = directory.parent / "store.ext4"
    command = [tools / "store-image.sh", directory, "docker.io/library/x:1", out]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **more})
    left = [path.name for path in directory.parent.iterdir() if path not in (directory, out)]
    assert left == [], "nothing is left beside the disk"
    return result, out


def tar(member, data=b""):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def test_layers_are_read_as_the_user_who_owns_them(tmp_path):
    member = tarfile.TarInfo("etc/hello")
    member.pax_headers = {"SCHILY.xattr.user.greeting": "hello"}
    layout(tmp_path / "layout", tar(member, b"hello\n"))
    result, out = convert(tmp_path / "layout")
    assert result.returncode == 0, result.stderr
    status = out.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (0, 0o444)


def test_a_link_in_the_place_of_the_disk_is_not_followed(tmp_path):
    victim, tools = tmp_path / "victim", tmp_path / "tools"
    victim.write_text("secret")
    victim.chmod(0o600)
    shutil.copytree(GUEST, tools)
    # What a program could do that a layer has taken over.
    (tools / "confine.py").write_text(f"import os; os.symlink('{victim}', '/scratch/store.ext4')")
    (tmp_path / "work").mkdir()
    layout(tmp_path / "work" / "layout", tar(tarfile.TarInfo("a")))
    result, _ = convert(tmp_path / "work" / "layout", tools=tools)
    assert result.returncode != 0 and "made into no disk" in result.stderr, result.stderr
    assert victim.stat().st_mode & 0o777 == 0o600


def test_a_hostile_layer_is_a_sentence(tmp_path):
    member = tarfile.TarInfo("../../etc/evil")
    layout(tmp_path / "layout", tar(member, b"x"))
    result, out = convert(tmp_path / "layout")
    assert result.returncode != 0 and not out.exists()
    assert "a layer names the path '../../etc/evil'" in result.stderr
    layout(tmp_path / "large", tar(tarfile.TarInfo("a"), bytes(4 * MIB)))
    (tmp_path / "layout").rename(tmp_path.parent / f"{tmp_path.name}-done")
    result, out = convert(tmp_path / "large", HEARTH_MAX_IMAGE_BYTES=str(MIB))
    assert result.returncode != 0 and "larger than the" in result.stderr, result.stderr


def member(kind, size):
    """The header of a member that announces this much."""
    info = tarfile.TarInfo("record")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def sparse(size):
    """The header of a file of this size that is all hole, in the old GNU format (tar.h,
    struct oldgnu_header)."""
    header = bytearray(member(tarfile.GNUTYPE_SPARSE, 0))
    header[483:495] = b"\x80" + size.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def refusal(tmp_path, layer, **more):
    """What is said of an image with this layer."""
    layout(tmp_path / "layout", layer)
    result, out = convert(tmp_path / "layout", **more)
    assert result.returncode != 0 and not out.exists()
    assert result.stderr.count("\n") == 1 and len(result.stderr) < 500, result.stderr
    return result.stderr


def attributes(count, length):
    """A file with different attributes of this length."""
    info = tarfile.TarInfo("a")
    info.pax_headers = {f"SCHILY.xattr.user.a{index}": f"{index:0{length}}" for index in range(count)}
    return tar(info)


@pytest.mark.parametrize("layer, said", [
    pytest.param(member(kind, 2 << 30) + bytes(MIB), "a name or attributes of 2147483648 bytes", id=f"record {kind.decode()}")
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
] + [
    pytest.param(tar(tarfile.TarInfo("a/" * 5000)), "a path of", id="path"),
    pytest.param(attributes(1, 70_000), "an attribute to the path", id="attribute"),
    pytest.param(member(tarfile.REGTYPE, -1024), "a negative size", id="negative size"),
    pytest.param((member(tarfile.XHDTYPE, 0)) * 3000, "nested too deeply", id="records of records"),
    pytest.param(sparse(1 << 60), "larger than the", id="sparse"),
])
def test_records_of_layers_without_bounds_are_a_sentence(tmp_path, layer, said):
    assert said in refusal(tmp_path, layer)


# What a process has before its first exec counts for it (getrusage(2)), and these tests may have
# much: a small one stands between.
MEASURED = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss)
sys.exit(status != 0)
"""


def test_a_layer_whose_record_is_2_gib_is_read_in_bounded_memory(tmp_path):
    # The record's bytes are there, 32 times the same piece, packed.
    piece, head = bytes(64 * MIB), member(tarfile.XHDTYPE, 2 << 30)
    digest, packed = hashlib.sha256(head), gzip.compress(head)
    again = gzip.compress(piece, 1)
    for _ in range(32):
        digest.update(piece)
        packed += again
    layout(tmp_path / "layout", packed, diff_id=f"sha256:{digest.hexdigest()}")
    command = [GUEST / "store-image.sh", tmp_path / "layout", "docker.io/library/x:1", tmp_path / "store.ext4"]
    done = subprocess.run([sys.executable, "-c", MEASURED, *command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "a name or attributes of 2147483648 bytes" in done.stderr, done
    assert int(done.stdout) < 256 << 10, "KiB of the largest of all its processes"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layout"]


def test_what_layers_may_have_is_counted_together(tmp_path):
    large = tarfile.TarInfo("a")
    large.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a", "GNU.sparse.realsize": str(1 << 40)}
    map_and_data = b"1\n0\n0\n".ljust(512, b"\0")
    assert "larger than the" in refusal(tmp_path, tar(large, map_and_data))


def test_attributes_as_images_have_them_are_kept(tmp_path):
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "of all"}) as archive:
        for index in range(3):
            info = tarfile.TarInfo(f"f{index}")
            info.pax_headers = {"SCHILY.xattr.security.selinux": "the same", "SCHILY.xattr.user.own": str(index)}
            archive.addfile(info)
    layout(tmp_path / "layout", layer.getvalue())
    result, out = convert(tmp_path / "layout")
    assert result.returncode == 0, result.stderr
    listing = subprocess.run(["debugfs", "-R", "ls overlay", out], capture_output=True, text=True, check=True).stdout
    home = next(word for word in listing.split() if len(word) == 64)
    for index in range(3):
        show = f"ea_list overlay/{home}/diff/f{index}"
        shown = subprocess.run(["debugfs", "-R", show, out], capture_output=True, text=True, check=True).stdout
        assert 'security.selinux (8) = "the same"' in shown and f'user.own (1) = "{index}"' in shown, shown

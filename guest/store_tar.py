"""Turns an OCI image layout into a tar stream of a containers-storage overlay store (what buildah
calls an additional image store).

usage: store_tar.py LAYOUT REFERENCE WORK_DIR MAX_BYTES

Standard output: one line "MIB INODES" (how large a file system has to be), then the tar stream.
Extended attributes, which mke2fs 1.47.2 drops, are left in WORK_DIR/attributes as commands for
debugfs. Layers are untrusted: nothing is ever unpacked, every digest is checked, and the bytes and
entries of all layers together are limited. The caller runs this without privileges. Errors are one
sentence on standard error, status 1.

Formats: OCI image-spec 1.1 (image-layout, manifest, layer); containers/storage drivers/overlay,
layers.go, images.go for the store. Overlayfs wants whiteouts as character devices 0:0 and opaque
directories as an extended attribute (kernel Documentation/filesystems/overlayfs.rst).
"""
import base64
import copy
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile

MAX_ENTRIES = 2_000_000
# A record with a name or attributes, as Go's archive/tar has it (maxSpecialFileSize), so that what
# Docker takes is taken.
MAX_RECORD = 1 << 20
# PATH_MAX, XATTR_NAME_MAX and XATTR_SIZE_MAX of <linux/limits.h>.
MAX_PATH, MAX_ATTRIBUTE_NAME, MAX_ATTRIBUTE_VALUE = 4096, 255, 65536
# Different values, each of which becomes a file.
MAX_ATTRIBUTE_VALUES = 100_000
# How much of a layer's text is shown in an error.
SHOWN = 200
BLOCK = 4096
XATTR = "SCHILY.xattr."
OPAQUE = {XATTR + "trusted.overlay.opaque": "y"}


class BadImage(Exception):
    pass


class Room:
    """What the layers of the image may still take, all together."""

    def __init__(self, max_bytes):
        self.max_bytes, self.packed, self.files, self.entries = max_bytes, max_bytes, max_bytes, MAX_ENTRIES

    def take_file(self, size):
        self.files -= size
        if self.files < 0:
            raise BadImage(f"the files of its layers are larger than the {self.max_bytes} bytes allowed")

    def take_entry(self):
        self.entries -= 1
        if self.entries < 0:
            raise BadImage("its layers have too many entries")


class Member(tarfile.TarInfo):
    """A member that is looked at before anything of it is read: `tarfile` reads records of any
    length into memory."""

    RECORDS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)

    def _proc_member(self, tar):
        if self.size < 0:
            raise BadImage("a layer has a member of a negative size")
        if self.type in self.RECORDS and self.size > MAX_RECORD:
            raise BadImage(f"a layer has a name or attributes of {self.size} bytes, more than the {MAX_RECORD} allowed")
        if self.type == tarfile.XGLTYPE:  # Docker passes over them too.
            tar.fileobj.seek(self._block(self.size), io.SEEK_CUR)
            return self.fromtarfile(tar)
        return super()._proc_member(tar)


def blob_path(layout, digest):
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise BadImage(f"digest {digest!r} is not sha256")
    return os.path.join(layout, "blobs", "sha256", digest[7:])


def read_json_blob(layout, digest):
    with open(blob_path(layout, digest), "rb") as file:
        data = file.read(8 << 20)
    if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
        raise BadImage(f"blob {digest} does not have its digest")
    return data, json.loads(data)


def read_image(layout):
    """The one image of the layout: its manifest digest, manifest and configuration, each as
    bytes and parsed."""
    with open(os.path.join(layout, "index.json"), encoding="utf-8") as file:
        manifests = json.load(file)["manifests"]
    if len(manifests) != 1:
        raise BadImage(f"the layout holds {len(manifests)} images instead of one")
    digest = manifests[0]["digest"]
    manifest_data, manifest = read_json_blob(layout, digest)
    if "layers" not in manifest:
        raise BadImage("the layout holds an index of several platforms instead of one image")
    config_data, config = read_json_blob(layout, manifest["config"]["digest"])
    diff_ids = config["rootfs"]["diff_ids"]
    if len(diff_ids) != len(manifest["layers"]):
        raise BadImage("the configuration and the manifest count different numbers of layers")
    return digest, manifest_data, manifest, config_data, diff_ids


def layer_ids(diff_ids):
    """The names by which containers/image stores layers: the first diff id, then a digest over
    parent and diff id."""
    ids = []
    for diff_id in diff_ids:
        own = diff_id[7:]
        ids.append(hashlib.sha256(f"{ids[-1]}+{own}".encode()).hexdigest() if ids else own)
    return ids


def hashed_copy(source, target, limit, what):
    """Copies at most `limit` bytes, or to nowhere; returns the digest and the size."""
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(1 << 20):
        size += len(chunk)
        if size > limit:
            raise BadImage(f"{what} is larger than the {limit} bytes allowed")
        digest.update(chunk)
        if target:
            target.write(chunk)
    return "sha256:" + digest.hexdigest(), size


def plain_tar(layout, descriptor, diff_id, path, limit):
    """Writes the layer, decompressed, to `path`, checking both digests; returns its size."""
    blob = blob_path(layout, descriptor["digest"])
    with open(blob, "rb") as source:
        magic = source.read(4)
        source.seek(0)
        if hashed_copy(source, None, limit, "a layer")[0] != descriptor["digest"]:
            raise BadImage(f"layer {descriptor['digest']} does not have its digest")
    tool = "gzip" if magic[:2] == b"\x1f\x8b" else "zstd" if magic == b"\x28\xb5\x2f\xfd" else "cat"
    arguments = [tool] if tool == "cat" else [tool, "-dcq"]
    with open(blob, "rb") as source, open(path, "wb") as target:
        process = subprocess.Popen(arguments, stdin=source, stdout=subprocess.PIPE)
        try:
            digest, size = hashed_copy(process.stdout, target, limit, "an unpacked layer")
        finally:
            process.stdout.close()
            status = process.wait()
    if status != 0 or digest != diff_id:
        raise BadImage(f"layer {descriptor['digest']} does not unpack to {diff_id}")
    return size


def shown(name):
    return repr(name if len(name) <= SHOWN else name[:SHOWN] + "...")


def clean_name(name):
    if len(name) > MAX_PATH:
        raise BadImage(f"a layer names a path of {len(name)} characters, more than the {MAX_PATH} allowed")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadImage(f"a layer names the path {shown(name)}")
    return "/".join(parts)


def value_bytes(text):
    return text.encode("utf-8", "surrogateescape")


def directory(name, mode=0o755):
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    return member


class Layer:
    """The members of one layer by clean name, the last of equal names winning, whiteouts
    in overlayfs' form."""

    def __init__(self, path, lower, room):
        self.lower, self.room = lower, room
        self.tar = tarfile.open(path, "r:", tarinfo=Member)
        self.members = {"": self._parent("")}
        opaque = []
        while member := self.tar.next():
            self.tar.members.clear()  # It would keep them all.
            self._add(member, opaque)
        for name in opaque:
            self.members[name].pax_headers.update(OPAQUE)

    def _add(self, member, opaque):
        self.room.take_entry()
        if member.isreg():
            self.room.take_file(member.size)
        name = clean_name(member.name)
        parent, _, base = name.rpartition("/")
        self._add_parents(parent)
        if base == ".wh..wh..opq":
            opaque.append(parent)
            return
        if base.startswith(".wh..wh."):
            return
        if base.startswith(".wh."):
            name = f"{parent}/{base[4:]}".lstrip("/")
            member.type, member.mode = tarfile.CHRTYPE, 0
            member.devmajor = member.devminor = member.size = 0
        member.pax_headers = {k: v for k, v in member.pax_headers.items() if k.startswith(XATTR)}
        for key, value in member.pax_headers.items():
            if len(key) - len(XATTR) > MAX_ATTRIBUTE_NAME or len(value_bytes(value)) > MAX_ATTRIBUTE_VALUE:
                raise BadImage(f"a layer gives an attribute to the path {shown(name)} that is too long")
        self.members[name] = member

    def _add_parents(self, name):
        while name and not (name in self.members and self.members[name].isdir()):
            self.room.take_entry()
            self.members[name] = self._parent(name)
            name = name.rpartition("/")[0]

    def _parent(self, name):
        """A directory that the layer implies without naming it: as the layers below have it."""
        for layer in reversed(self.lower):
            member = layer.members.get(name)
            if member and member.isdir():
                member = copy.copy(member)
                member.pax_headers = {}
                return member
        return directory(name)

    def hard_link_target(self, member):
        """The name and member of the file that a chain of hard links ends at."""
        seen = set()
        while member.islnk():
            name = clean_name(member.linkname)
            if name in seen or name not in self.members:
                raise BadImage(f"a layer has a hard link to {shown(member.linkname)}, which it does not hold")
            seen.add(name)
            member = self.members[name]
        return name, member

    def in_order(self):
        """Names so that a directory comes before what it holds and a hard link after its target."""
        rank = lambda m: 0 if m.isdir() else 2 if m.islnk() else 1
        return sorted(self.members, key=lambda name: (rank(self.members[name]), name))

    def blocks(self):
        return sum(-(-m.size // BLOCK) + 1 for m in self.members.values())

    def write(self, out, prefix, attributes):
        for name in self.in_order():
            member, content = self.members[name], None
            if member.islnk():
                # mke2fs gives the shared inode what the last of its names says.
                target, inode = self.hard_link_target(member)
                member = copy.copy(inode)
                member.type, member.linkname, member.size = tarfile.LNKTYPE, prefix + target, 0
            elif member.isreg():
                content = self.tar.extractfile(member)
                member = copy.copy(member)
                member.type = tarfile.REGTYPE
            member.name = (prefix + name).rstrip("/")
            if not member.islnk():
                attributes.add(member)
            member.pax_headers = {}
            out.addfile(member, content)


class Attributes:
    """Writes the debugfs commands that set extended attributes, each value in a file of its own."""

    def __init__(self, work):
        self.work, self.values = work, {}
        self.commands = open(os.path.join(work, "attributes"), "w", encoding="utf-8", errors="surrogateescape")

    def add(self, member):
        for key, value in member.pax_headers.items():
            name = key[len(XATTR):]
            if not re.fullmatch(r"(user|trusted|security)\.[\w.-]+", name):
                continue
            if any(ord(character) < 32 for character in member.name):
                raise BadImage(f"a layer gives an attribute to the path {shown(member.name)}")
            path = '"/' + member.name.replace('"', '""') + '"'
            self.commands.write(f"ea_set -f {self.value_file(value_bytes(value))} {path} {name}\n")

    def value_file(self, value):
        digest = hashlib.sha256(value).digest()
        if digest not in self.values:
            if len(self.values) == MAX_ATTRIBUTE_VALUES:
                raise BadImage("its layers have too many different attributes")
            self.values[digest] = f"value-{len(self.values)}"
            with open(os.path.join(self.work, self.values[digest]), "wb") as file:
                file.write(value)
        return self.values[digest]


def add_file(out, name, data):
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o600
    out.addfile(member, io.BytesIO(data))


def data_file_name(key):
    """The file name under which containers/storage keeps a big data item."""
    if re.fullmatch(r"[0-9a-z.]+", key):
        return key
    return "=" + base64.b64encode(key.encode()).decode()


def write_image_records(out, reference, digest, manifest_data, manifest, config_data, top_layer):
    config_digest = manifest["config"]["digest"]
    image_id = config_digest[7:]
    big_data = {"manifest": manifest_data, f"manifest-{digest}": manifest_data, config_digest: config_data}
    record = {
        "id": image_id, "digest": digest, "names": [reference], "layer": top_layer, "metadata": "{}",
        "created": "2020-01-01T00:00:00Z",
        "big-data-names": list(big_data),
        "big-data-sizes": {key: len(data) for key, data in big_data.items()},
        "big-data-digests": {key: "sha256:" + hashlib.sha256(data).hexdigest() for key, data in big_data.items()},
    }
    out.addfile(directory("overlay-images", 0o700))
    out.addfile(directory(f"overlay-images/{image_id}", 0o700))
    add_file(out, "overlay-images/images.json", json.dumps([record]).encode())
    add_file(out, "overlay-images/images.lock", b"")
    for key, data in big_data.items():
        add_file(out, f"overlay-images/{image_id}/{data_file_name(key)}", data)


def write_layer_records(out, ids, descriptors, diff_ids, sizes):
    records = []
    for index, layer_id in enumerate(ids):
        record = {
            "id": layer_id, "created": "2020-01-01T00:00:00Z",
            "compressed-diff-digest": descriptors[index]["digest"], "compressed-size": descriptors[index]["size"],
            "diff-digest": diff_ids[index], "diff-size": sizes[index],
        }
        if index:
            record["parent"] = ids[index - 1]
        records.append(record)
    out.addfile(directory("overlay-layers", 0o700))
    add_file(out, "overlay-layers/layers.json", json.dumps(records).encode())
    add_file(out, "overlay-layers/layers.lock", b"")


def write_layer_directory(out, layer, ids, index, attributes):
    """overlay/ID with diff, link and lower, and the short link that keeps mount
    options below a page."""
    short = lambda layer_id: layer_id[:26].upper()
    home = f"overlay/{ids[index]}"
    out.addfile(directory(home, 0o700))
    out.addfile(directory(home + "/work", 0o700))
    add_file(out, home + "/link", short(ids[index]).encode())
    if index:
        lower = ":".join("l/" + short(ids[below]) for below in range(index - 1, -1, -1))
        add_file(out, home + "/lower", lower.encode())
    link = tarfile.TarInfo("overlay/l/" + short(ids[index]))
    link.type, link.linkname = tarfile.SYMTYPE, f"../{ids[index]}/diff"
    out.addfile(link)
    layer.write(out, home + "/diff/", attributes)


def main(layout, reference, work, max_bytes):
    digest, manifest_data, manifest, config_data, diff_ids = read_image(layout)
    room, sizes, layers = Room(int(max_bytes)), [], []
    for index, descriptor in enumerate(manifest["layers"]):
        path = os.path.join(work, f"layer-{index}.tar")
        sizes.append(plain_tar(layout, descriptor, diff_ids[index], path, room.packed))
        room.packed -= sizes[-1]
        layers.append(Layer(path, list(layers), room))
    ids = layer_ids(diff_ids)
    inodes = sum(len(layer.members) for layer in layers) + 16 * len(layers) + 64
    mib = (sum(layer.blocks() for layer in layers) * BLOCK + inodes * 256) * 21 // 20 // (1 << 20) + 16
    print(mib, inodes, flush=True)
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT) as out:
        write_image_records(out, reference, digest, manifest_data, manifest, config_data, ids[-1] if ids else "")
        write_layer_records(out, ids, manifest["layers"], diff_ids, sizes)
        out.addfile(directory("overlay", 0o700))
        out.addfile(directory("overlay/l", 0o700))
        written, attributes = set(), Attributes(work)
        for index, layer in enumerate(layers):
            if ids[index] not in written:
                written.add(ids[index])
                write_layer_directory(out, layer, ids, index, attributes)
        attributes.commands.close()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except MemoryError:
        sys.exit("not a usable image: reading it takes more memory than is allowed")
    except RecursionError:
        sys.exit("not a usable image: a layer or a description of it is nested too deeply")
    except Exception as error:  # Whatever it is, it comes of what the image says.
        sys.exit(f"not a usable image: {error}")

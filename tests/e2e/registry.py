"""Debian's docker-registry on loopback, filled through its HTTP API, and a small base image made
of Debian's files."""
import gzip
import hashlib
import io
import json
import pathlib
import socket
import ssl
import subprocess
import tarfile
import urllib.request

from harness import CACHE, wait_until

# Enough for `RUN` lines in sh, and for an app in perl.
PACKAGES = ["base-files", "libc6", "libcrypt1", "dash", "perl-base"]
UNNEEDED = ("usr/share/", "usr/lib/x86_64-linux-gnu/gconv", "etc/")
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:4242:4343:app:/home/app:/bin/sh\n"
GROUP = "root:x:0:\napp:x:4343:\n"


class Certificate:
    """An authority, and a certificate of it for 127.0.0.1."""

    def __init__(self, directory: pathlib.Path):
        self.authority, self.path, self.key = (directory / f"registry-{name}" for name in ("ca.pem", "tls.pem", "tls.key"))
        authority_key = directory / "registry-ca.key"
        self._make("/CN=authority", authority_key, self.authority, "-addext", "keyUsage=critical,keyCertSign")
        self._make("/CN=registry", self.key, self.path, "-CA", self.authority, "-CAkey", authority_key,
                   "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE")

    def _make(self, subject: str, key: pathlib.Path, certificate: pathlib.Path, *more) -> None:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", subject, "-keyout", key, "-out", certificate, *more], check=True, capture_output=True)


class Registry:
    """A running registry, on HTTPS if there is a certificate."""

    def __init__(self, directory: pathlib.Path, certificate: Certificate | None = None):
        directory.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % probe.getsockname()[1]
        self.url = f"{'https' if certificate else 'http'}://{self.address}"
        tls = f", tls: {{certificate: '{certificate.path}', key: '{certificate.key}'}}" if certificate else ""
        self.context = ssl.create_default_context(cafile=certificate.authority) if certificate else None
        self.config = directory / "config.yml"
        self.config.write_text(
            f"version: 0.1\nlog: {{level: warn}}\nhttp: {{addr: '{self.address}'{tls}}}\n"
            f"storage: {{filesystem: {{rootdirectory: '{directory / 'storage'}'}}}}\n")
        self.log = directory.parent / f"{directory.name}.log"

    def __enter__(self):
        with open(self.log, "w") as log:
            command = ["docker-registry", "serve", str(self.config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_until(self.answers, 20, "the registry answers")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return urllib.request.urlopen(f"{self.url}/v2/", timeout=2, context=self.context).status == 200
        except OSError:
            return False

    def _send(self, method: str, url: str, body: bytes, media_type: str):
        request = urllib.request.Request(url, body, {"Content-Type": media_type}, method=method)
        return urllib.request.urlopen(request, timeout=20, context=self.context)

    def _push_blob(self, repository: str, data: bytes, media_type: str) -> dict:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        started = self._send("POST", f"{self.url}/v2/{repository}/blobs/uploads/", b"", "application/octet-stream")
        place = started.headers["Location"]
        place += ("&" if "?" in place else "?") + f"digest={digest}"
        self._send("PUT", place, data, "application/octet-stream")
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def push(self, repository: str, tag: str, layer: bytes, config: dict) -> str:
        """Pushes an image of one layer (a tar), and an index of it besides; returns
        the index's digest."""
        packed = gzip.compress(layer, 1, mtime=0)
        diff_id = "sha256:" + hashlib.sha256(layer).hexdigest()
        image = {"architecture": architecture(), "os": "linux", "config": config,
                 "rootfs": {"type": "layers", "diff_ids": [diff_id]},
                 # Without it, and its time, buildah never takes a step from its cache.
                 "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "the files of some Debian packages"}]}
        kind = "application/vnd.oci.image"
        manifest = {
            "schemaVersion": 2, "mediaType": f"{kind}.manifest.v1+json",
            "config": self._push_blob(repository, json.dumps(image).encode(), f"{kind}.config.v1+json"),
            "layers": [self._push_blob(repository, packed, f"{kind}.layer.v1.tar+gzip")],
        }
        body = json.dumps(manifest).encode()
        self._send("PUT", f"{self.url}/v2/{repository}/manifests/{tag}", body, manifest["mediaType"])
        platform = {"architecture": architecture(), "os": "linux"}
        entry = {"mediaType": manifest["mediaType"], "digest": "sha256:" + hashlib.sha256(body).hexdigest(), "size": len(body)}
        index = {"schemaVersion": 2, "mediaType": f"{kind}.index.v1+json", "manifests": [{**entry, "platform": platform}]}
        body = json.dumps(index).encode()
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        self._send("PUT", f"{self.url}/v2/{repository}/manifests/{digest}", body, index["mediaType"])
        return digest


def architecture() -> str:
    return subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()


def small_debian() -> bytes:
    """A layer with sh and perl, from the files of the build guest that `make setup` made."""
    root = CACHE / "guest/1/builder"
    wanted = {"bin", "lib", "lib64", "sbin", "tmp", "var", "var/tmp", "etc", "root", "proc", "sys", "dev"}
    for package in PACKAGES:
        lists = root / "var/lib/dpkg/info"
        found = [*lists.glob(f"{package}.list"), *lists.glob(f"{package}:*.list")]
        assert len(found) == 1, (package, found)
        wanted |= {line.strip("/") for line in found[0].read_text().splitlines() if line != "/."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in sorted(wanted):
            path = root / name
            if name.startswith(UNNEEDED) or not (path.exists() or path.is_symlink()):
                continue
            # The lists name some files below /lib and /lib64, which are links.
            if any(parent.is_symlink() for parent in [*path.parents][:-len(root.parents) - 1]):
                continue
            tar.add(path, name, recursive=False)
        for name, text in (("etc/passwd", PASSWD), ("etc/group", GROUP)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()

#!/usr/bin/env python3
"""Cargo compiles again what is newer than the last time, and in a new clone all is. `begin` gives the
sources that are what they were when CI last compiled in this directory the times that they had then;
`end` notes that this is true for the next time. Everything is compiled if somebody else has compiled
there since, if a source was changed in between, or if the checkout is elsewhere: its path is compiled
into tests.

usage: as_before.py TARGET_DIRECTORY begin|end
"""
import hashlib
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def sources() -> dict[str, list]:
    """Digest of the content and time in ns of each file in the index, by its path; without those that are compiled
    elsewhere (clients.sh)."""
    command = ["git", "ls-files", "-z", "--", ".", ":!tests/clients"]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    paths = {str(ROOT / name): ROOT / name for name in listed.split("\0") if (ROOT / name).is_file()}
    return {name: [hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns] for name, path in paths.items()}


def compiled_since(target: pathlib.Path, time: float) -> bool:
    crates = [*target.glob("*/.fingerprint/*/*"), *target.glob("*/*/.fingerprint/*/*")]
    return any(file.stat().st_mtime > time for file in crates)


def main(target: pathlib.Path, moment: str) -> None:
    list_path, ended_path = target / "ci-sources.json", target / "ci-ended"
    known = json.loads(list_path.read_text()) if list_path.exists() else {}
    now = sources()
    if moment == "end":
        if now == known:
            ended_path.touch()
        return
    if ended_path.exists() and not compiled_since(target, ended_path.stat().st_mtime):
        for name in now.keys() & known.keys():
            if now[name][0] == known[name][0]:
                os.utime(name, ns=(known[name][1],) * 2)
    ended_path.unlink(missing_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    list_path.write_text(json.dumps(sources()))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2])

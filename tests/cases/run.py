#!/usr/bin/env python3
"""Field cases: inputs of people who do this job (Dockerfiles, zips, policies, SDK defaults, hosts),
each a directory with a `run.sh` whose last line is `PASS ID …` or `FAIL ID …`.

usage: run.py [--cases DIR] [--keep] [ID ...]      (as root, after `make build venv clients`; `make
cases` does all of it)

They are looked for beside the checkout and are not part of it. Each gets the environment of `hearth
env` of a server that is started here, `hearth` and `aws` in its PATH, and HX_PYTHON with boto3.
Ends with a table, and with status 1 when a case failed.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))

from harness import CACHE, HEARTH, PROTOCOLS, VENV_BIN, Server  # noqa: E402

DIRECTORY = ROOT.parent / "shared/cases"
# No guest in them: short enough for every run of the tests (tests/e2e/test_cases.py).
QUICK = ("A02", "A03", "A04", "A07")
# Not run unless named, and why.
LEFT_OUT = {"O01": "empties the host's nftables: for a machine that is thrown away"}
CASE_TIMEOUT_SECONDS = 40 * 60


def known(directory: pathlib.Path) -> list[str]:
    return sorted(path.parent.name for path in directory.glob("*/run.sh"))


def environment(server: Server, directory: pathlib.Path, work: pathlib.Path) -> dict[str, str]:
    """What `hearth env` prints, programs, and what single cases ask for."""
    lines = subprocess.run([HEARTH, "env", "--data-dir", server.data_dir], capture_output=True, text=True, check=True).stdout
    exported = dict(re.findall(r"^export (\w+)=['\"]?(.*?)['\"]?$", lines, re.MULTILINE))
    own = f"{HEARTH} serve --data-dir {work}/own --api-addr 127.0.0.1:9471 --endpoint-addr 127.0.0.1:9472"
    path = f"{HEARTH.parent}:{VENV_BIN}:{CACHE}/clients/node/nodejs/bin:{os.environ['PATH']}:/usr/sbin:/sbin"
    return {**os.environ, **exported, "PATH": path, "CASES": str(directory), "WORK": str(work), "DATA": str(server.data_dir),
            "HX_PYTHON": f"{VENV_BIN}/python", "HX_SERVE": own, "NODE_PATH": str(CACHE / "clients/node/node_modules"),
            "PYTHONPATH": str(next((PROTOCOLS / "venv/lib").glob("python3*/site-packages"), "")),
            "PYTHONDONTWRITEBYTECODE": "1"}


def run(identifier: str, directory: pathlib.Path, server: Server, work: pathlib.Path) -> tuple[bool, str]:
    """Whether the case passed, and its last line. Its output is kept in `work`."""
    own = work / identifier
    own.mkdir()
    # Some put files beside their Dockerfile, and the original may not be written to.
    copy = own / "cases"
    subprocess.run(["cp", "-r", directory, copy], check=True)
    subprocess.run(["chmod", "-R", "u+w", copy], check=True)
    command = ["bash", copy / identifier / "run.sh"]
    with open(own / "output", "w") as output:
        try:
            status = subprocess.run(command, env=environment(server, copy, own), stdin=subprocess.DEVNULL, stdout=output,
                                    stderr=subprocess.STDOUT, timeout=CASE_TIMEOUT_SECONDS, cwd=own).returncode
        except subprocess.TimeoutExpired:
            return False, f"not done after {CASE_TIMEOUT_SECONDS} s"
    lines = (own / "output").read_text(errors="replace").strip().splitlines()
    last = next((line for line in reversed(lines) if line.startswith(("PASS ", "FAIL "))), lines[-1] if lines else "no output")
    return status == 0 and last.startswith("PASS "), last


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs field cases against a server of its own.")
    parser.add_argument("--cases", type=pathlib.Path, default=DIRECTORY, help=f"where they are ({DIRECTORY})")
    parser.add_argument("--keep", action="store_true", help="keep the server's data and the cases' output, also when all pass")
    parser.add_argument("identifiers", nargs="*", metavar="ID")
    arguments = parser.parse_args()
    wanted = arguments.identifiers or [name for name in known(arguments.cases) if name not in LEFT_OUT]
    if not wanted:
        print(f"no cases in {arguments.cases}: skipped")
        return 0
    work = pathlib.Path(tempfile.mkdtemp(prefix="hearth-cases-"))
    server = Server(work / "data", {"minimum_idle_seconds": 5}, work).start()
    failed = []
    try:
        for identifier in wanted:
            began = time.monotonic()
            passed, line = run(identifier, arguments.cases, server, work)
            failed += [] if passed else [identifier]
            print(f"{'pass' if passed else 'FAIL'}  {identifier:<5} {time.monotonic() - began:5.0f} s  {line}", flush=True)
    finally:
        server.end()
        if arguments.keep or failed:
            print(f"output: {work}/ID/output")
        else:
            shutil.rmtree(work)
    print(f"{len(wanted) - len(failed)} passed, {len(failed)} failed" + (": " + " ".join(failed) if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

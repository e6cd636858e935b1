#!/usr/bin/env bash
# usage: venv.sh DIRECTORY [REQUIREMENTS]
#
# Makes a Python environment with what tests/requirements.txt, or another such file, names, and
# nothing else: a package that is needed and not named fails here, on the day it becomes needed,
# rather than in a test, on the day it changes.
set -euo pipefail
directory=$1
requirements=${2:-$(dirname "${BASH_SOURCE[0]}")/../tests/requirements.txt}
stamp=$directory/.requirements
if ! cmp --quiet "$requirements" "$stamp"; then
  rm -rf "$directory"
  python3 -m venv "$directory"
  "$directory/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$requirements"
  "$directory/bin/pip" check --disable-pip-version-check >/dev/null ||
    { echo "venv.sh: $requirements does not name all that its packages need: $("$directory/bin/pip" check)" >&2; exit 1; }
  cp "$requirements" "$stamp"
fi

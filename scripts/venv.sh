#!/usr/bin/env bash
# usage: venv.sh DIRECTORY [REQUIREMENTS]
#
# Makes a Python environment with what tests/requirements.txt, or another such file, names.
set -euo pipefail
directory=$1
requirements=${2:-$(dirname "${BASH_SOURCE[0]}")/../tests/requirements.txt}
stamp=$directory/.requirements
if ! cmp --quiet "$requirements" "$stamp"; then
  rm -rf "$directory"
  python3 -m venv "$directory"
  "$directory/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
  cp "$requirements" "$stamp"
fi

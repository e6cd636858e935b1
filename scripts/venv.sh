#!/usr/bin/env bash
# usage: venv.sh DIRECTORY
#
# Makes a Python environment with the unmodified clients that the tests drive: AWS CLI, boto3, pytest.
set -euo pipefail
directory=$1
packages=(awscli boto3 pytest)
stamp=$directory/.packages
if [ "$(cat "$stamp" 2>/dev/null)" != "${packages[*]}" ]; then
  rm -rf "$directory"
  python3 -m venv "$directory"
  "$directory/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
  echo "${packages[*]}" >"$stamp"
fi

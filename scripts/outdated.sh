#!/usr/bin/env bash
# usage: outdated.sh CACHE
#
# Tells what is newer than what is pinned here: Python packages, crates, npm packages, the models of
# botocore; and which advisories are open. Changes nothing, and always ends with status 0: what it
# finds is news, not a fault of this commit.
set -uo pipefail
cache=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
heading() { printf '\n%s\n' "$*"; }

for requirements in "$root"/tests/requirements.txt "$root"/tests/clients/*/requirements.txt; do
  case $requirements in
  "$root/tests/requirements.txt") environment=$cache/venv ;;
  */node/* | */protocols/*) environment=$cache/clients/$(basename "$(dirname "$requirements")")/venv ;;
  *) environment=$cache/clients/$(basename "$(dirname "$requirements")") ;;
  esac
  heading "Python, ${requirements#"$root/"}"
  "$environment/bin/pip" list --outdated --disable-pip-version-check || echo "not looked at: no environment in $environment"
done

heading "Models of botocore"
newest=$(mktemp -d)
trap 'rm -rf "$newest"' EXIT
if python3 -m venv "$newest/venv" && "$newest/venv/bin/pip" install --quiet --disable-pip-version-check boto3; then
  echo "newest: $("$newest/venv/bin/pip" show botocore --disable-pip-version-check | sed -n 's/^Version: //p')"
  if HEARTH_BIN=/nonexistent PYTHONDONTWRITEBYTECODE=1 "$newest/venv/bin/python" "$root/tests/e2e/model.py" >"$newest/members.json"; then
    diff -u "$root/tests/e2e/model_members.json" "$newest/members.json" && echo "no member or operation that is not known"
  fi
fi

for manifest in Cargo.toml tests/clients/rust/Cargo.toml tests/clients/protocols/app/Cargo.toml; do
  heading "Crates, $manifest"
  cargo update --dry-run --manifest-path "$root/$manifest"
done
heading "Advisories"
if command -v cargo-deny >/dev/null; then
  cargo deny --manifest-path "$root/Cargo.toml" check advisories
else
  echo "not looked at: cargo-deny is not installed"
fi

npm=$cache/clients/node/nodejs
for client in node protocols; do
  heading "npm, tests/clients/$client"
  (cd "$cache/clients/$client" && "$npm/bin/node" "$npm/lib/node_modules/npm/bin/npm-cli.js" outdated)
done
exit 0

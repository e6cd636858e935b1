#!/usr/bin/env bash
# usage: earlier-version.sh COMMIT
#
# Builds the server and the guest artefacts of a commit of this checkout's history, once, where they
# do not meet those of the checkout: in ~/.cache/hearth/upgrade/COMMIT, of which `hearth` is the
# server and `cache` the XDG_CACHE_HOME that it is to be given.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/guest/common.sh"
[ $# = 1 ] || die "usage: earlier-version.sh COMMIT"
directory=$HEARTH_CACHE/upgrade/$1
[ ! -e "$directory/hearth" ] || exit 0
git -C "$root" cat-file -e "$1^{commit}" 2>/dev/null ||
  die "commit $1, from which an upgrade is tested, is not in the history of $root: get it (git fetch --unshallow), or name a server of that commit by HEARTH_OLD_BIN and the XDG_CACHE_HOME of its make build by HEARTH_OLD_CACHE"

say "building Hearth as of commit $1 in $directory"
source=$directory/source
rm -rf "$source"
mkdir -p "$source" "$directory/cache"
git -C "$root" archive "$1" | tar -x -C "$source"
# What make and the shell around have set is about this checkout.
env -u MAKEFLAGS -u MAKEOVERRIDES -u HEARTH_BIN -u HEARTH_CACHE -u TARGET_DIR -u CACHE \
  XDG_CACHE_HOME="$directory/cache" CARGO_TARGET_DIR="$directory/target" make -C "$source" build
# Last, as it says that the rest is there.
mv "$directory/target/release/hearth" "$directory/hearth"
rm -rf "$source" "$directory/target"

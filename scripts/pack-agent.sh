#!/usr/bin/env bash
# usage: pack-agent.sh AGENT_BINARY OUT_INITRD
#
# Makes the initrd of a microVM: the cached initramfs.cpio followed by a second archive that holds
# the agent as /init (the kernel unpacks one after the other). OUT_INITRD with `-all` before its
# suffix is the same for apps with all capabilities, with more kernel modules.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../guest/common.sh"
[ $# = 2 ] || die "usage: pack-agent.sh AGENT_BINARY OUT_INITRD"
initramfs=$HEARTH_CACHE/guest/1/initramfs.cpio
[ -e "$initramfs" ] || die "$initramfs is missing: run make setup"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
install -m 755 "$1" "$root/init"
touch -d @0 "$root/init"
mkdir -p "$(dirname "$2")"
{
  cat "$initramfs"
  (cd "$root" && echo init | cpio --quiet --reproducible -o -H newc -R 0:0)
} >"$2.new"
all=${2%.img}-all.img
cat "$2.new" "$HEARTH_CACHE/guest/1/modules-all.cpio" >"$all.new"
mv "$all.new" "$all"
mv "$2.new" "$2"

#!/usr/bin/env bash
# usage: store-image.sh OCI_LAYOUT_DIR REFERENCE OUT_STORE_EXT4
#
# Turns an OCI image layout (one image; files readable by everybody) into a disk with a read-only image store, from which a
# build microVM takes REFERENCE (docker.io/library/debian:trixie-slim) without importing anything.
#
# Runs as root only to enter a mount and network namespace; everything that touches the layers runs as nobody, without
# capabilities, and sees the layout read-only. Nothing is unpacked on the host: layers go from tar to mke2fs. The largest
# allowed size of all unpacked layers is HEARTH_MAX_IMAGE_BYTES (16 GiB).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"
[ $# = 3 ] || die "usage: store-image.sh OCI_LAYOUT_DIR REFERENCE OUT_STORE_EXT4"
layout=$1 reference=$2 out=$3
builder=$HEARTH_CACHE/guest/1/builder
[ -d "$builder" ] || die "$builder is missing: run make setup"
[ -f "$layout/index.json" ] || die "$layout is no OCI image layout"

work=$(mktemp -d "$(dirname "$out")/.storing-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/scratch"
chown 65534:65534 "$work/scratch"

# Debian 12's mke2fs cannot read a tar stream, so the builder's is run, by its own loader and libraries.
confined='
  set -euo pipefail
  mount -t tmpfs -o mode=755 tmpfs /mnt
  mkdir /mnt/layout /mnt/builder /mnt/scratch
  cp "$1" /mnt/store_tar.py
  mount --bind "$2" /mnt/layout && mount -o remount,bind,ro /mnt/layout
  mount --bind "$3" /mnt/builder && mount -o remount,bind,ro /mnt/builder
  mount --bind "$4" /mnt/scratch
  cd /mnt/scratch
  exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs \
    env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 bash -euo pipefail -c "$6" confined "$5" "$7"'
convert='
  loader=$(echo /mnt/builder/usr/lib*/ld-linux-*.so.*)
  libraries=$(echo /mnt/builder/usr/lib/*-linux-gnu)
  /usr/bin/python3 -I /mnt/store_tar.py /mnt/layout "$1" /mnt/scratch "$2" | {
    read -r mib inodes || exit 1
    truncate -s "${mib}M" store.ext4
    run() { "$loader" --library-path "$libraries" "/mnt/builder/usr/sbin/$@"; }
    run mke2fs -q -F -t ext4 -O ^has_journal -m 0 -b 4096 -I 256 \
      -N "$inodes" -L store -E root_owner=0:0 -d - store.ext4
    [ -s attributes ] || exit 0
    # debugfs ends with status 0 whatever happens; its first line of errors is its version.
    run debugfs -w -f attributes store.ext4 2>&1 >/dev/null | sed 1d >failures
    [ ! -s failures ] || { head -n 3 failures >&2; exit 1; }
  }'
unshare --mount --net --ipc bash -c "$confined" confined \
  "$here/store_tar.py" "$layout" "$builder" "$work/scratch" "$reference" "$convert" "${HEARTH_MAX_IMAGE_BYTES:-17179869184}"
chown 0:0 "$work/scratch/store.ext4"
chmod 444 "$work/scratch/store.ext4"
mv "$work/scratch/store.ext4" "$out"

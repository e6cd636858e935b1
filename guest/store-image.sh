#!/usr/bin/env bash
# usage: store-image.sh OCI_LAYOUT_DIR REFERENCE OUT_STORE_EXT4
#
# Turns an OCI image layout (one image) into a disk with a read-only image store, from which a build
# microVM takes REFERENCE (docker.io/library/debian:trixie-slim) without importing anything.
#
# Runs as root only to make namespaces and a root directory; everything that touches the layers runs
# in these as the owner of the layout (as nobody when that is root; then everybody must be allowed
# to read it), without capabilities, under the limits and the filter of confine.py, and sees the
# layout read-only. Nothing is unpacked on the host: layers go from tar to mke2fs. The largest
# allowed size of all unpacked layers is HEARTH_MAX_IMAGE_BYTES (16 GiB); HEARTH_CONVERT_SECONDS
# (1800) is how much time each program may use.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"
[ $# = 3 ] || die "usage: store-image.sh OCI_LAYOUT_DIR REFERENCE OUT_STORE_EXT4"
layout=$1 reference=$2 out=$3
builder=$HEARTH_CACHE/guest/1/builder
[ -d "$builder" ] || die "$builder is missing: run make setup"
[ -f "$layout/index.json" ] || die "$layout is no OCI image layout"

owner=$(stat -c %u "$layout")
[ "$owner" != 0 ] || owner=65534
bytes=${HEARTH_MAX_IMAGE_BYTES:-17179869184}

work=$(mktemp -d "$(dirname "$out")/.storing-XXXXXX")
trap 'rm -rf "$work"' EXIT
# The kernel ends what follows rather than the server.
echo 1000 >/proc/self/oom_score_adj
mkdir "$work/scratch"
chown "$owner:$owner" "$work/scratch"

# Debian 12's mke2fs cannot read a tar stream, so the builder's is run, by its own
# loader and libraries.
confined='
  set -euo pipefail
  tools=$1 layout=$2 builder=$3 scratch=$4 owner=$5 bytes=$6; shift 6
  mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /mnt
  show() { mount --bind "$1" "$2" && mount -o remount,bind,ro,nosuid,nodev "$2"; }
  for directory in /usr /lib /lib32 /lib64 /libx32 /bin /sbin; do
    if [ -L "$directory" ]; then cp -a "$directory" /mnt
    elif [ -d "$directory" ]; then mkdir "/mnt$directory" && show "$directory" "/mnt$directory"; fi
  done
  mkdir /mnt/etc /mnt/dev /mnt/layout /mnt/builder /mnt/scratch
  [ ! -e /etc/ld.so.cache ] || cp /etc/ld.so.cache /mnt/etc
  touch /mnt/dev/null && mount --bind /dev/null /mnt/dev/null
  cp "$tools/store_tar.py" "$tools/confine.py" /mnt
  show "$layout" /mnt/layout
  show "$builder" /mnt/builder
  mount --bind "$scratch" /mnt/scratch && mount -o remount,bind,nosuid,nodev,noexec /mnt/scratch
  mount -o remount,ro,nosuid,nodev /mnt
  # Two GiB of memory, and files of twice the image and some more: its layers, and the disk
  # that is made of them.
  exec chroot /mnt /usr/bin/python3 -I /confine.py "$owner" "${HEARTH_CONVERT_SECONDS:-1800}" 2147483648 $((bytes * 2 + 4294967296)) \
    /bin/bash -euo pipefail -c "$@"'
convert='
  cd /scratch
  loader=$(echo /builder/usr/lib*/ld-linux-*.so.*)
  libraries=$(echo /builder/usr/lib/*-linux-gnu)
  /usr/bin/python3 -I /store_tar.py /layout "$1" /scratch "$2" | {
    read -r mib inodes || exit 1
    truncate -s "${mib}M" store.ext4
    run() { "$loader" --library-path "$libraries" "/builder/usr/sbin/$@"; }
    run mke2fs -q -F -t ext4 -O ^has_journal -m 0 -b 4096 -I 256 \
      -N "$inodes" -L store -E root_owner=0:0 -d - store.ext4
    [ -s attributes ] || exit 0
    # debugfs ends with status 0 whatever happens; its first line of errors is its version.
    run debugfs -w -f attributes store.ext4 2>&1 >/dev/null | sed 1d >failures
    [ ! -s failures ] || { head -n 3 failures >&2; exit 1; }
  }'
unshare --mount --net --ipc --uts --pid --fork --kill-child bash -c "$confined" confined \
  "$here" "$layout" "$builder" "$work/scratch" "$owner" "$bytes" "$convert" convert "$reference" "$bytes"
# Whoever has taken the user over may have left a link to a file of the host.
[ -f "$work/scratch/store.ext4" ] && [ ! -L "$work/scratch/store.ext4" ] || die "the layers were made into no disk"
chown 0:0 "$work/scratch/store.ext4"
chmod 444 "$work/scratch/store.ext4"
mv "$work/scratch/store.ext4" "$out"

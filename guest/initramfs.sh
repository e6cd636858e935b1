#!/usr/bin/env bash
# usage: initramfs.sh KERNEL_DIR RELEASE OUT_CPIO
#
# Packs the initial file system of every microVM except its /init: directories, /dev/console and the kernel modules that
# Debian's cloud kernel does not have built in, uncompressed (an emulated guest unpacks slowly) and numbered in the order in
# which /init has to load them. KERNEL_DIR is an unpacked linux-image package.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
kernel=$1 release=$2 out=$3

# Disk, network, root overlay, control port, entropy, the end of connections (SOCK_DESTROY), the endpoint's way to the app
# (nftables). Dependencies are found by modprobe and come before their users.
modules=(virtio_blk virtio_net overlay virtio_console virtio_rng tcp_diag nf_tables)

source_dir=$kernel
[ -d "$kernel/lib/modules" ] || source_dir=$kernel/usr
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{dev,proc,sys,run,tmp,newroot,lib/modules}
chmod 755 "$root"
chmod 1777 "$root/tmp"
mknod -m 600 "$root/dev/console" c 5 1

depmod -b "$source_dir" "$release"
number=0
for module in "${modules[@]}"; do
  # A module that is built in prints "builtin NAME" and needs no file.
  modprobe -d "$source_dir" -S "$release" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
done | awk '!seen[$0]++' | while read -r path; do
  name=$(basename "$path" | sed 's/\.ko.*//')
  file=$(printf '%s/lib/modules/%02d-%s.ko' "$root" "$number" "$name")
  case $path in
  *.xz) xz -dc "$path" >"$file" ;;
  *.zst) zstd -qdc "$path" >"$file" ;;
  *) cp "$path" "$file" ;;
  esac
  number=$((number + 1))
done
find "$root" -exec touch -h -d @0 {} +
(cd "$root" && find . | LC_ALL=C sort | cpio --quiet --reproducible -o -H newc -R 0:0) >"$out"

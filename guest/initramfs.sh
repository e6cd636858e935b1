#!/usr/bin/env bash
# usage: initramfs.sh KERNEL_DIR RELEASE OUT_CPIO ALL_CPIO
#
# Packs the initial file system of every microVM except its /init: directories, /dev/console and the
# kernel modules that Debian's cloud kernel does not have built in, uncompressed (an emulated guest
# unpacks slowly) and numbered in the order in which /init has to load them. KERNEL_DIR is an
# unpacked linux-image package. ALL_CPIO gets the modules that guests have besides whose app has all
# capabilities; the kernel unpacks it on top of the first.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
kernel=$1 release=$2 out=$3 all=$4

# Disk, network, root overlay, control port, entropy, the end of connections
# (SOCK_DESTROY), the endpoint's way to the app (nftables). Dependencies are found by
# modprobe and come before their users.
modules=(virtio_blk virtio_net overlay virtio_console virtio_rng tcp_diag nf_tables)
# What an app with all capabilities may want of its kernel and cannot load itself, since no module
# is in its file system: disks in files, networks of containers (docker, k3s: bridges, NAT,
# connection tracking, load balancing), tunnels, NFS.
all_modules=(
  loop squashfs binfmt_misc
  bridge br_netfilter veth dummy vxlan tun wireguard macvlan ipvlan sch_htb udp_diag unix_diag
  nft_compat nft_ct nft_nat nft_masq nft_redir nft_chain_nat nft_reject_inet nft_limit nft_log nft_fib_inet
  ip_tables iptable_filter iptable_nat iptable_mangle iptable_raw ip6table_filter ip6table_nat ip6table_mangle
  xt_conntrack xt_MASQUERADE xt_nat xt_REDIRECT xt_addrtype xt_comment xt_multiport xt_mark xt_tcpudp xt_LOG xt_limit xt_set
  xt_statistic xt_physdev xt_owner nf_conntrack_netlink ip_set_hash_ip ip_set_hash_net ip_vs_rr ip_vs_wrr ip_vs_sh
  nfsv3 nfsv4
)

source_dir=$kernel
[ -d "$kernel/lib/modules" ] || source_dir=$kernel/usr
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# usage: files MODULE ...: prints the files of the modules and of what they need, in
# the order of loading.
files() {
  local module
  for module; do
    # A module that is built in prints "builtin NAME" and needs no file.
    modprobe -d "$source_dir" -S "$release" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
  done | awk '!seen[$0]++'
}

# usage: unpack DIRECTORY FIRST_NUMBER <FILES
unpack() {
  local number=$2 path name file
  while read -r path; do
    name=$(basename "$path" | sed 's/\.ko.*//')
    file=$(printf '%s/lib/modules/%03d-%s.ko' "$1" "$number" "$name")
    case $path in
    *.xz) xz -dc "$path" >"$file" ;;
    *.zst) zstd -qdc "$path" >"$file" ;;
    *) cp "$path" "$file" ;;
    esac
    number=$((number + 1))
  done
}

# usage: archive DIRECTORY >CPIO
archive() {
  find "$1" -exec touch -h -d @0 {} +
  (cd "$1" && find . | LC_ALL=C sort | cpio --quiet --reproducible -o -H newc -R 0:0)
}

root=$work/root
mkdir -p "$root"/{dev,proc,sys,run,tmp,newroot,lib/modules} "$work/all/lib/modules"
chmod 755 "$root"
chmod 1777 "$root/tmp"
mknod -m 600 "$root/dev/console" c 5 1
depmod -b "$source_dir" "$release"
files "${modules[@]}" >"$work/every"
files "${all_modules[@]}" >"$work/wanted"
unpack "$root" 0 <"$work/every"
archive "$root" >"$out"
grep -vxFf "$work/every" "$work/wanted" | unpack "$work/all" 500
archive "$work/all" >"$all"

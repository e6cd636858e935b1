#!/usr/bin/env bash
# Makes the guest artefacts in $HEARTH_CACHE/guest/1-<key>, with the symbolic link
# $HEARTH_CACHE/guest/1 to them:
#
#   vmlinuz             Debian 13's kernel, cloud flavour
#   initramfs.cpio      directories, /dev/console and kernel modules; pack-agent.sh adds /init
#   modules-all.cpio    more kernel modules, for apps with all capabilities
#   builder.ext4        root file system of build microVMs, used read-only (Debian 13 with the
#                       buildah of Debian 14)
#   builder/            the same as a directory; store-image.sh borrows its mke2fs
#   manifest.json       version, kernel release, SHA-256 of each file
#
# Runs as root. Needs the machine's Debian mirror the first time; afterwards it only checks the key.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"

version=1
suite=trixie
# Debian 13's buildah (1.39) refuses COPY --link and symbolic --chmod, so buildah comes from the
# next suite, with the few libraries that it needs. Everything else in the builder is of $suite.
buildah_suite=forky
arch=$(dpkg --print-architecture)
# libarchive13t64 is what mke2fs loads to read a tar stream; busybox runs in images
# that have no chmod.
packages=buildah,crun,netavark,ca-certificates,tar,mount,e2fsprogs,jq,libarchive13t64,busybox-static

# apt takes from the next suite only buildah, its configuration, the C library, and
# what no other suite has.
preferences="Package: *
Pin: release n=$buildah_suite
Pin-Priority: 100

Package: buildah golang-github-containers-common golang-github-containers-image libc6 libc-bin libc-gconv-modules-extra
Pin: release n=$buildah_suite
Pin-Priority: 990"

# Prints the apt sources of the builder. On Ubuntu there is no Debian mirror among the machine's
# sources: Debian's own is used then.
builder_sources() {
  local sources
  sources=$(debian_sources "$suite")
  if [ -z "$sources" ]; then
    printf 'deb %s %s main\n' http://deb.debian.org/debian "$suite" http://deb.debian.org/debian "$suite-updates" \
      http://deb.debian.org/debian-security "$suite-security" http://deb.debian.org/debian "$buildah_suite"
    return
  fi
  echo "$sources"
  echo "deb $(debian_repository debian) $buildah_suite main"
}

key=$(key_of "$here/guest.sh" "$here/initramfs.sh" "$here/builder" "$suite" "$buildah_suite" "$arch" "$(builder_sources)")
target=$HEARTH_CACHE/guest/$version-$key

# Downloads the kernel package that the meta package points to, inside the new root,
# and copies it out.
download_kernel='
  package=$(chroot "$1" apt-cache depends linux-image-cloud-'$arch' | sed -n "s/^ *Depends: \(linux-image-.*\)/\1/p")
  chroot "$1" sh -c "cd /tmp && apt-get download -q $package"
  mv "$1"/tmp/linux-image-*.deb "$KERNEL_DEB"'

# Nothing here may empty the new root's /tmp: mmdebstrap keeps its apt configuration there, and
# without it its own clean-up empties the package lists of the host.
make_builder_root() {
  local root=$1 options
  mapfile -t options < <(apt_options)
  say "making the builder's root file system (one to three minutes)"
  builder_sources | KERNEL_DEB=$work/kernel.deb mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" \
    "${options[@]}" --setup-hook='mkdir -p "$1"/etc/apt/preferences.d' --setup-hook="echo '$preferences' >\"\$1\"/etc/apt/preferences.d/hearth" \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --customize-hook="$download_kernel" --customize-hook="tar -C '$here/builder' --owner=0 --group=0 -c . | tar -C \"\$1\" -x" \
    --customize-hook='rm -rf "$1"/var/log/* "$1"/etc/hostname
      ln -sf /run/resolv.conf "$1"/etc/resolv.conf
      ln -sf /run/containers-cache "$1"/var/cache/containers
      printf "127.0.0.1 localhost\n::1 localhost\n" >"$1"/etc/hosts
      install -D "$1"/bin/busybox "$1"/usr/libexec/hearth/tools/busybox
      mkdir -p "$1"/context "$1"/out "$1"/out-meta "$1"/var/lib/containers "$1"/run/stores' \
    "$suite" "$root" -
}

# Prints the manifest of the artefacts in the current directory.
print_manifest() {
  local file separator=
  printf '{"version":"%s","architecture":"%s","kernel":"%s","files":{' "$version" "$arch" "$1"
  for file in vmlinuz initramfs.cpio modules-all.cpio builder.ext4; do
    printf '%s"%s":{"sha256":"%s","size":%s}' "$separator" "$file" "$(sha256sum <"$file" | cut -d' ' -f1)" "$(stat -c %s "$file")"
    separator=,
  done
  echo '}}'
}

if [ ! -e "$target/manifest.json" ]; then
  mkdir -p "$HEARTH_CACHE/guest"
  work=$(mktemp -d "$HEARTH_CACHE/guest/.making-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  make_builder_root "$work/builder"
  dpkg -x "$work/kernel.deb" "$work/kernel"
  release=$(basename "$work"/kernel/boot/vmlinuz-* | sed 's/^vmlinuz-//')
  install -m 644 "$work/kernel/boot/vmlinuz-$release" "$work/vmlinuz"
  "$here/initramfs.sh" "$work/kernel" "$release" "$work/initramfs.cpio" "$work/modules-all.cpio"
  # Without a journal: nobody writes to it after this.
  truncate -s "$(($(du -sm "$work/builder" | cut -f1) * 11 / 10 + 16))M" "$work/builder.ext4"
  mke2fs -q -t ext4 -O ^has_journal -m 0 -L builder -d "$work/builder" "$work/builder.ext4"
  rm -rf "$work/kernel" "$work/kernel.deb"
  (cd "$work" && print_manifest "$release" >manifest.json)
  chmod 755 "$work"
  rm -rf "$target"
  mv "$work" "$target"
  trap - EXIT
fi
ln -sfn "$(basename "$target")" "$HEARTH_CACHE/guest/$version"

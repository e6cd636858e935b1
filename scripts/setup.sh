#!/usr/bin/env bash
# Installs the host packages Hearth needs and makes the guest artefacts.
#
# Debian 12 and 13, Ubuntu 24.04 and later; as root, or as a user who may call sudo. Repeating it
# costs less than a second: apt is only touched when a package is missing. Options: --packages-only.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/guest/common.sh"

minimum_qemu=8.2
case $(dpkg --print-architecture) in
amd64) qemu_package=qemu-system-x86 qemu_program=qemu-system-x86_64 ;;
arm64) qemu_package=qemu-system-arm qemu_program=qemu-system-aarch64 ;;
*) die "Hearth runs on amd64 and arm64, not on $(dpkg --print-architecture)" ;;
esac
# What each is for: the VMM and its disk tool; guest images; networks of microVMs; the
# Rust build; the tests.
qemu_packages=("$qemu_package" qemu-utils)
packages=(
  mmdebstrap debian-archive-keyring e2fsprogs cpio kmod xz-utils zstd
  iproute2 nftables libnss-myhostname util-linux
  gcc libc6-dev make pkg-config
  python3 python3-venv curl ca-certificates openssl zip unzip docker-registry pebble bind9-dnsutils
)
# The browser of the tests, and what tells it whom to trust: 127 MB to fetch. Ubuntu has
# Chromium as a snap only.
[ "$(. /etc/os-release && echo "${ID:-}")" != debian ] || packages+=(chromium libnss3-tools)

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Prints the packages among the arguments that are not installed.
missing_packages() {
  local package
  for package; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || echo "$package"
  done
}

# Prints the version that apt would install of the package, without Debian's epoch.
candidate_version() {
  LC_ALL=C apt-cache policy "$1" | sed -n 's/^  Candidate: \([0-9]*:\)\{0,1\}//p'
}

installed_qemu_is_new_enough() {
  local version
  version=$("$qemu_program" --version 2>/dev/null | sed -n '1s/.*version \([0-9.]*\).*/\1/p')
  [ -n "$version" ] && dpkg --compare-versions "$version" ge "$minimum_qemu"
}

# Debian 12 ships QEMU 7.2; its backports suite has 10.0. The suite is taken from the mirror that
# the machine uses already.
enable_backports() {
  local codename uri file=/etc/apt/sources.list.d/hearth-backports.sources
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  uri=$(debian_repository debian)
  [ -n "$uri" ] || die "QEMU $minimum_qemu or later is needed, and this machine's package sources offer $(candidate_version "$qemu_package")"
  say "QEMU $minimum_qemu or later is needed: enabling $codename-backports in $file"
  as_root tee "$file" >/dev/null <<SOURCES
Types: deb
URIs: $uri
Suites: $codename-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
  as_root apt-get update -q
}

install_qemu() {
  local target=()
  if ! dpkg --compare-versions "$(candidate_version "$qemu_package")" ge "$minimum_qemu"; then
    local codename
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [ -e /etc/apt/sources.list.d/hearth-backports.sources ] || enable_backports
    target=(-t "$codename-backports")
  fi
  apt_install "${target[@]}" "${qemu_packages[@]}"
  installed_qemu_is_new_enough || die "QEMU $minimum_qemu or later is needed; $("$qemu_program" --version | head -n 1) is what could be installed"
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
}

# docker-registry is used by one test, which starts its own on loopback: the package must not
# leave a service running.
install_without_services() {
  local policy=/usr/sbin/policy-rc.d ours=
  if [ ! -e "$policy" ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
  fi
  local status=0
  apt_install "$@" || status=$?
  [ -z "$ours" ] || as_root rm -f "$policy"
  [ "$status" = 0 ] || die "apt-get could not install: $*"
  if [ -d /run/systemd/system ]; then
    as_root systemctl disable --quiet docker-registry.service
  else
    as_root update-rc.d docker-registry disable
  fi
}

install_packages() {
  local missing
  mapfile -t missing < <(missing_packages "${packages[@]}")
  if [ "${#missing[@]}" = 0 ] && [ -z "$(missing_packages "${qemu_packages[@]}")" ] && installed_qemu_is_new_enough; then
    return
  fi
  say "installing packages: ${missing[*]} ${qemu_packages[*]}"
  as_root apt-get update -q
  [ "${#missing[@]}" = 0 ] || install_without_services "${missing[@]}"
  install_qemu
}

[ -e /etc/debian_version ] || die "setup installs Debian and Ubuntu packages; on this machine install the list in scripts/setup.sh by hand"
install_packages
if [ "${1:-}" != --packages-only ]; then
  # The cache belongs to the user who runs setup; file systems inside it are made by root.
  mkdir -p "$HEARTH_CACHE"
  as_root env HEARTH_CACHE="$HEARTH_CACHE" "$root/guest/guest.sh"
  for suite in bookworm trixie; do
    as_root env HEARTH_CACHE="$HEARTH_CACHE" "$root/guest/base-image.sh" "$suite"
  done
fi

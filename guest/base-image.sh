#!/usr/bin/env bash
# usage: base-image.sh SUITE
#
# Makes debian:SUITE-slim from Debian packages, with no container registry, as a store disk for
# build microVMs in $HEARTH_CACHE/bases/debian-SUITE-slim-<key>/store.ext4, and lists it in
# $HEARTH_CACHE/bases/mirror.json. Runs as root, after guest.sh.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"
[ $# = 1 ] || die "usage: base-image.sh SUITE"

suite=$1
arch=$(dpkg --print-architecture)
reference=docker.io/library/debian:$suite-slim
key=$(key_of "$here/base-image.sh" "$here/store-image.sh" "$here/store_tar.py" "$here/base" "$suite" "$arch" "$(debian_sources "$suite")")
target=$HEARTH_CACHE/bases/debian-$suite-slim-$key

# Writes the root file system as a tar archive. Documentation, manuals and translations
# are left out, now and by later apt-get runs (mmdebstrap keeps the dpkg options in the
# image), as slim images do.
make_root_tar() {
  local out=$1 options mirror=(-)
  mapfile -t options < <(apt_options)
  [ -n "$(debian_sources "$suite")" ] || mirror=()
  say "making $reference (about a minute)"
  debian_sources "$suite" | mmdebstrap --quiet --mode=root --variant=minbase --format=tar "${options[@]}" \
    --dpkgopt="$here/base/dpkg-options" \
    --customize-hook="tar -C '$here/base/root' --owner=0 --group=0 -c etc usr | tar -C \"\$1\" -x --keep-directory-symlink" \
    --customize-hook='rm -rf "$1"/etc/resolv.conf "$1"/etc/hostname "$1"/var/log/*.log "$1"/var/log/apt/* "$1"/var/cache/apt/*.bin "$1"/var/cache/debconf/*-old "$1"/var/cache/ldconfig/*' \
    "$suite" "$out" "${mirror[@]}"
}

# Writes an OCI image layout (image-spec 1.1) whose one layer is the tar archive,
# which is moved into it.
make_layout() {
  local tar=$1 layout=$2 layer config manifest
  mkdir -p "$layout/blobs/sha256"
  layer=$(sha256sum <"$tar" | cut -d' ' -f1)
  local layer_size
  layer_size=$(stat -c %s "$tar")
  mv "$tar" "$layout/blobs/sha256/$layer"
  # buildah takes no step from its cache whose base has a history without times: images in
  # Docker's format have them.
  local now
  now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  config=$(add_blob "$layout" '{"architecture":"%s","os":"linux","created":"%s","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["bash"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created":"%s","created_by":"hearth: mmdebstrap %s"}]}' \
    "$arch" "$now" "$layer" "$now" "$suite")
  manifest=$(add_blob "$layout" '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%s}]}' \
    "$config" "$(stat -c %s "$layout/blobs/sha256/$config")" "$layer" "$layer_size")
  printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
  printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s}]}' \
    "$manifest" "$(stat -c %s "$layout/blobs/sha256/$manifest")" >"$layout/index.json"
}

# Stores printf's result as a blob of the layout and prints its SHA-256.
add_blob() {
  local layout=$1 format=$2 text digest
  shift 2
  # shellcheck disable=SC2059 # the format is one of the two above
  text=$(printf "$format" "$@")
  digest=$(printf '%s' "$text" | sha256sum | cut -d' ' -f1)
  printf '%s' "$text" >"$layout/blobs/sha256/$digest"
  echo "$digest"
}

# Rewrites mirror.json from the bases that are there: one line per reference, this one's
# previous versions left out.
write_mirror_table() {
  local table=$HEARTH_CACHE/bases/mirror.json lines=()
  if [ -e "$table" ]; then
    mapfile -t lines < <(grep -F '"reference"' "$table" | grep -vF "\"$reference\"" | sed 's/,$//')
  fi
  lines+=("{\"reference\":\"$reference\",\"store\":\"$target/store.ext4\"}")
  {
    echo '['
    printf '%s\n' "${lines[@]}" | sed '$!s/$/,/'
    echo ']'
  } >"$table.new"
  mv "$table.new" "$table"
}

if [ ! -e "$target/store.ext4" ]; then
  mkdir -p "$HEARTH_CACHE/bases"
  work=$(mktemp -d "$HEARTH_CACHE/bases/.making-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  make_root_tar "$work/root.tar"
  make_layout "$work/root.tar" "$work/layout"
  "$here/store-image.sh" "$work/layout" "$reference" "$work/store.ext4"
  rm -rf "$work/layout"
  chmod 755 "$work"
  rm -rf "$target"
  mv "$work" "$target"
  trap - EXIT
fi
grep -qF "\"$target/store.ext4\"" "$HEARTH_CACHE/bases/mirror.json" 2>/dev/null || write_mirror_table

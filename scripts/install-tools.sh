#!/usr/bin/env bash
# Puts the programs that the server runs at run time where only root can change them, since the
# server is root; so that it does not need the checkout either.
set -euo pipefail
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../guest" && pwd)
target=/usr/local/lib/hearth/guest-tools
files=("$source/store-image.sh" "$source/common.sh" "$source/store_tar.py" "$source/confine.py")
for file in "${files[@]}"; do
  cmp --quiet "$file" "$target/$(basename "$file")" || changed=yes
done
if [ -n "${changed:-}" ]; then
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  "${as_root[@]}" install -d -o root -g root -m 755 /usr/local/lib/hearth "$target"
  "${as_root[@]}" install -o root -g root -m 755 "${files[@]}" "$target/"
fi

#!/usr/bin/env bash
# Puts the programs that the server runs at run time beside the guest artefacts, so that it does not need the checkout.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../guest/common.sh"
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../guest" && pwd)
mkdir -p "$HEARTH_CACHE/guest-tools"
install -m 755 "$source/store-image.sh" "$source/common.sh" "$source/store_tar.py" "$source/confine.py" "$HEARTH_CACHE/guest-tools/"

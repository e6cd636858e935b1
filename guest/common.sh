# Shell functions shared by the scripts of guest/ and scripts/. Sourced, never run.

# Where artefacts are kept that are expensive to make.
: "${HEARTH_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/hearth}"
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'hearth: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Prints 16 hex digits that change when a file among the arguments, or an argument that
# is no file, changes.
key_of() {
  local argument
  for argument; do
    if [ -d "$argument" ]; then
      (cd "$argument" && find . -type f | LC_ALL=C sort | xargs sha256sum)
    elif [ -f "$argument" ]; then
      sha256sum <"$argument"
    else
      printf '%s\n' "$argument"
    fi
  done | sha256sum | cut -c 1-16
}

# Prints the address of the Debian repository whose path ends in $1 (debian, debian-security) that
# the machine's own apt uses; nothing when it uses none (Ubuntu). Read from the sources alone: fresh
# machines have no package lists, and without them apt answers in 0.1 s instead of 2 s.
debian_repository() {
  apt-get -o Dir::State::lists=/nonexistent indextargets --no-release-info --format '$(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    awk -v name="$1" '$1 == "main" && $2 ~ "/" name "/?$" && !found { print $2; found = 1 }'
}

# Prints the apt sources of a Debian suite on the machine's own mirrors.
debian_sources() {
  local suite=$1 main security
  main=$(debian_repository debian)
  security=$(debian_repository debian-security)
  [ -n "$main" ] || return 0
  echo "deb $main $suite main"
  echo "deb $main $suite-updates main"
  [ -z "$security" ] || echo "deb $security $suite-security main"
}

# Prints the --aptopt arguments by which mmdebstrap reaches the mirrors as the machine itself does
# (proxy, clock checks).
apt_options() {
  apt-config dump | sed -n 's/^\(Acquire::\(Check-Date\|Check-Valid-Until\|http::Proxy\|https::Proxy\|Retries\) .*\);$/--aptopt=\1/p'
}

# make quickstart   everything from nothing to three running microVMs
# make test         all tests
# Each target does the set-up that it needs and costs little when that is done already.

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/hearth
TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
AGENT := $(TARGET_DIR)/$(TARGET)/release/hearth-agent
export HEARTH_BIN := $(abspath $(TARGET_DIR))/release/hearth
INITRD := $(CACHE)/initrd.img
VENV := $(CACHE)/venv
# Ordinary users have no sbin in their PATH; tests look at the host with nft and make file systems.
export PATH := $(PATH):/usr/sbin:/sbin
# Namespaces, TAPs and confined VMM processes need root.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=PATH,HOME,XDG_CACHE_HOME,HEARTH_BIN,CARGO_TARGET_DIR)

.PHONY: all setup build quickstart test unit unit-tests e2e upgrade cases soak fuzz bench bench-api bench-endpoint bench-guest-hop bench-neighbours lint outdated venv clients

all: build

setup:
	scripts/setup.sh

build: setup
	cargo build --release --locked -p hearth-server
	RUSTFLAGS='-C target-feature=+crt-static -C strip=symbols' \
		cargo build --release --locked -p hearth-agent --target $(TARGET)
	scripts/pack-agent.sh $(AGENT) $(INITRD)
	scripts/install-tools.sh

quickstart: build
	$(SUDO) python3 scripts/quickstart.py

test: build unit e2e

# As root, for namespaces and guests. The dev profile compiles in a quarter of the time of the
# release profile, and checks for overflows. Examples are compiled by lint, and no comment has
# code to test.
unit: unit-tests
	$(SUDO) env "PATH=$$PATH" python3 scripts/unit.py $(TARGET_DIR)/unit-tests.json

unit-tests:
	mkdir -p $(TARGET_DIR)
	cargo test --locked --workspace --tests --no-run --message-format=json-render-diagnostics >$(TARGET_DIR)/unit-tests.json

# First the files that nothing may run beside (conftest.py), then the others, three at a time.
E2E = $(SUDO) env "PATH=$$PATH" $(VENV)/bin/python -m pytest -q tests/e2e
e2e: venv clients
	$(E2E) -m alone; alone=$$?; $(E2E) -m 'not alone' -n 3 --dist loadfile --no-loadscope-reorder && exit $$alone

# A data directory that this commit made is taken over. Its server and guests are built once, for
# half an hour and more, unless HEARTH_OLD_BIN and HEARTH_OLD_CACHE name what is built (the server,
# and the XDG_CACHE_HOME of its guest artefacts).
OLD_COMMIT := 5888f0c
OLD_BIN := $(or $(HEARTH_OLD_BIN),$(CACHE)/upgrade/$(OLD_COMMIT)/hearth)
OLD_CACHE := $(or $(HEARTH_OLD_CACHE),$(CACHE)/upgrade/$(OLD_COMMIT)/cache)
upgrade: build venv
	$(if $(HEARTH_OLD_BIN),,scripts/earlier-version.sh $(OLD_COMMIT))
	$(SUDO) env "PATH=$$PATH" HEARTH_OLD_BIN=$(OLD_BIN) HEARTH_OLD_CACHE=$(OLD_CACHE) \
		$(VENV)/bin/python -m pytest -q --durations=0 --durations-min=1 tests/e2e/test_upgrade.py

# Inputs of people who do this job, if they lie beside the checkout: `make cases CASES='D01 G02'`,
# all without CASES (hours under TCG).
cases: build venv clients
	$(SUDO) env "PATH=$$PATH" $(VENV)/bin/python tests/cases/run.py $(CASES)

# The long form of the fault suite: an hour.
soak: build venv
	$(SUDO) env "PATH=$$PATH" HEARTH_FAULTS=50 HEARTH_SOAK_MINUTES=30 HEARTH_SOAK_MICROVMS=20 \
		$(VENV)/bin/python -m pytest -q -s tests/e2e/test_faults.py

# Each parser of hostile bytes for FUZZ_MINUTES, one after another; each test binary runs its own at
# the same time. With overflow checks.
FUZZ_MINUTES := 10
fuzz:
	BOLERO_RANDOM_ITERATIONS=1000000000000 BOLERO_RANDOM_TEST_TIME_MS=$$(($(FUZZ_MINUTES) * 60000)) \
		cargo test --locked $(foreach crate,auth data-plane dns guest-protocol host-net image-builder image-pull image-report,-p hearth-$(crate)) fuzz_

bench: build venv
	$(SUDO) $(VENV)/bin/python tests/bench/bench.py

# Needs neither root nor guests.
bench-api:
	cargo run --release --locked -p hearth-control-plane --example api_bench -- $(BENCH_API)

# Beside nginx and HAProxy; what it needs: tests/bench/README.md.
bench-endpoint:
	cargo build --release --locked -p hearth-data-plane --example endpoint_bench
	$(SUDO) env "PATH=$$PATH" python3 tests/bench/endpoint_bench.py $(BENCH_ENDPOINT)

bench-guest-hop: build venv
	$(SUDO) $(VENV)/bin/python tests/bench/guest_hop.py $(BENCH_GUEST_HOP)

# What attacks of one account cost another.
bench-neighbours: build venv
	$(SUDO) $(VENV)/bin/python tests/bench/neighbours.py $(BENCH_NEIGHBOURS)

lint:
	cargo fmt --check
	cargo fmt --check --manifest-path tests/clients/rust/Cargo.toml
	cargo fmt --check --manifest-path tests/clients/protocols/app/Cargo.toml
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	cargo doc --release --locked --workspace --no-deps --document-private-items --quiet
	cargo xtask tidy
	if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; fi

# What is newer than what is pinned here. Tells, changes nothing, and is no part of
# any other target.
outdated: venv clients
	scripts/outdated.sh $(CACHE)

venv:
	scripts/venv.sh $(VENV)

clients:
	scripts/clients.sh $(CACHE)

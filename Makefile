# Everyday commands; 'make help' lists them.

PREFIX  ?= /usr
DESTDIR ?=
OCF     ?= $(PREFIX)/lib/ocf/resource.d/rust
CARGO   ?= cargo

# Building needs these; the tests, the demo and the lab need the rest.
BUILD_DEPS := build-essential pkg-config libmnl-dev libnftnl-dev
LAB_DEPS   := nftables iproute2 conntrack tcpdump strace corosync pacemaker pacemaker-cli-utils \
              crmsh pcs resource-agents procps util-linux libcap2-bin libxml2-utils

APT := $(if $(filter 0,$(shell id -u)),,sudo) env DEBIAN_FRONTEND=noninteractive apt-get

.DEFAULT_GOAL := help
.PHONY: help build-deps deps missing-packages build demo test test-unprivileged test-full lint doc golden install uninstall clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

build-deps: NEEDED := $(BUILD_DEPS)
build-deps: missing-packages ## install what apt has to bring for a build (Debian, Ubuntu)

deps: NEEDED := $(BUILD_DEPS) $(LAB_DEPS)
deps: missing-packages ## the same for the tests and the demo too

missing-packages:
	@missing=$$(dpkg-query -W -f '$${db:Status-Abbrev} $${Package}\n' $(NEEDED) 2>&1 \
	  | sed -nE 's/^(un|dpkg-query: no packages found matching) *//p; s/^[^i].. +//p'); \
	if [ -z "$$missing" ]; then echo "deps: all there"; else \
	  echo "deps: installing" $$missing; \
	  $(APT) update -qq && $(APT) install -y -qq --no-install-recommends $$missing; fi

build: ## the agent and nodectl, in target/release
	$(CARGO) build --release --locked

demo: deps build ## three nodes share an address; one is killed; see the share move (needs root)
	$(CARGO) build --release --locked -p clusterip-lab
	target/release/demo

test: deps ## the core: unit and property tests, and the scenarios with real packets (needs root)
	@echo "== formatting and lints"
	@$(MAKE) --no-print-directory lint
	@echo "== unit and property tests"
	$(CARGO) test --locked -p clusterip
	@echo "== scenarios: namespaces, real packets, a real cluster"
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked -p clusterip-lab -- --test-threads=2

test-unprivileged: ## the scenarios that need no cluster, without root, in a user namespace
	$(CARGO) build --locked --workspace --bins
	unshare --user --map-root-user --mount --net sh -c \
	  'mount -t tmpfs tmpfs /run && exec $(CARGO) test --locked -p clusterip-lab -- --skip cluster --test-threads=2'

test-full: test ## adds what is slow: the scenarios once more without root, and many more random cases
	@echo "== property tests, 20,000 cases each"
	PROPTEST_CASES=20000 $(CARGO) test --release --locked -p clusterip
	@echo "== the agent killed at every system call"
	EVERY_SYSCALL=1 $(CARGO) test --locked -p clusterip-lab --test scenarios any_system_call
	@echo "== scenarios in a user namespace"
	@$(MAKE) --no-print-directory test-unprivileged

lint: ## rustfmt, clippy and rustdoc, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items --quiet

golden: ## write the reference rulesets in nft/ anew; review the diff (needs root)
	$(CARGO) build --locked --workspace --bins
	UPDATE_GOLDEN=1 $(CARGO) test --locked -p clusterip-lab --test scenarios golden

install: ## put the agent and nodectl where Pacemaker and people find them [DESTDIR=…]
	install -D -m 0755 target/release/ocf-clusterip $(DESTDIR)$(OCF)/ClusterIP
	install -D -m 0755 target/release/nodectl $(DESTDIR)$(PREFIX)/sbin/nodectl

uninstall: ## take them away again
	rm -f $(DESTDIR)$(OCF)/ClusterIP $(DESTDIR)$(PREFIX)/sbin/nodectl

clean: ## remove what was built
	$(CARGO) clean

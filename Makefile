# Everyday commands; 'make help' lists them.

PREFIX  ?= /usr
DESTDIR ?=
# Arguments of 'make bench', such as BENCH="--quick --skip cluster".
BENCH   ?=
# Arguments of 'make ordeal'.
ORDEAL  ?=
SBIN    ?= $(PREFIX)/sbin
OCF     ?= $(PREFIX)/lib/ocf/resource.d/rust
ZSH     ?= $(PREFIX)/share/zsh/vendor-completions
UNITS   ?= $(PREFIX)/lib/systemd/system
SYSUSERS ?= $(PREFIX)/lib/sysusers.d
CARGO   ?= cargo

# Where cargo puts what it builds.
TARGET  := $(abspath $(or $(CARGO_TARGET_DIR),target))
PAGES   := $(TARGET)/pages
DEB     := $(TARGET)/deb
RPM     := $(TARGET)/rpm
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# Options for rpmbuild, which looks for what a build wants among RPM packages alone.
RPMFLAGS ?= $(if $(wildcard /etc/debian_version),--nodeps)
DOC     ?= $(PREFIX)/share/doc/clusterip
# What Prometheus and Grafana are given.
SHARE   ?= $(PREFIX)/share/clusteripd

# Building needs these, those of Corosync for the daemon alone; the tests, the demo and the lab need the rest; the guest
# some more.
# "rust" and "rust-lints" are no packages: packaging/install-missing knows which ones bring what is missing.
BUILD_DEPS := rust build-essential pkg-config libmnl-dev libnftnl-dev libcpg-dev libquorum-dev libcmap-dev
LAB_DEPS   := rust-lints nftables iproute2 conntrack tcpdump strace corosync pacemaker pacemaker-cli-utils \
              crmsh pcs resource-agents procps util-linux libcap2-bin libxml2-utils iptables \
              ethtool python3-jsonschema openvswitch-switch
ORDEAL_DEPS := faketime
GUEST_DEPS := qemu-system-x86 kmod xz-utils debian-archive-keyring

PACKAGE_DEPS := $(BUILD_DEPS) dpkg-dev lintian debootstrap
MISSING = CARGO='$(CARGO)' packaging/install-missing

comma := ,

# Scenarios with a real cluster are in modules of their own; their names begin so.
WITH_CLUSTER := $(basename $(notdir $(wildcard tests/scenarios/cluster_*.rs tests/scenarios/lab_cluster.rs)))
NO_CLUSTER   := $(foreach module,$(WITH_CLUSTER),--skip $(module)::)

.DEFAULT_GOAL := help
# Two goals at once would install at once; cargo uses all processors anyway.
.NOTPARALLEL:
.PHONY: help build-deps deps guest-deps package-deps rpm-deps vagrant-deps build pages demo bench bench-record ordeal
.PHONY: test test-unprivileged test-guest test-trixie test-deb test-rpm test-vagrant test-full lint golden mutants
.PHONY: install install-data install-daemon uninstall deb rpm clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

build-deps: ## install what apt has to bring for a build (Debian, Ubuntu)
	@$(MISSING) $(BUILD_DEPS)

deps: ## the same for the tests and the demo too
	@$(MISSING) $(BUILD_DEPS) $(LAB_DEPS)

guest-deps: ## the same for the tests in the guest too
	@$(MISSING) $(BUILD_DEPS) $(LAB_DEPS) $(GUEST_DEPS)

package-deps: ## the same for the Debian packages
	@$(MISSING) $(PACKAGE_DEPS)

rpm-deps: # the same for the RPM package and its test
	@$(MISSING) $(BUILD_DEPS) rpm cpio

vagrant-deps: # the same for the test of vagrant's description
	@$(MISSING) $(BUILD_DEPS) vagrant

# Twice, for with the daemon's features the other programs would want Corosync's libraries too.
build: ## the agent, nodectl and clusteripd, in target/release
	$(CARGO) build --release --locked
	$(CARGO) build --release --locked --features daemon --bin clusteripd

pages: ## manual pages and completions, in target/pages
	$(CARGO) run --locked --quiet --features pages,daemon --bin pages -- $(PAGES)

demo: deps build ## three nodes share an address; one is killed; see the share move (needs root)
	$(CARGO) build --release --locked -p clusterip-lab
	$(TARGET)/release/demo

bench: deps build ## measure, side by side with what there is else; see docs/benchmarks.md (needs root) [BENCH=…]
	$(CARGO) build --release --locked -p clusterip-lab
	@$(CARGO) run --release --locked --quiet -p clusterip-lab --bin bench -- $(BENCH)

bench-record: deps build # the same, into the file that docs/benchmarks.md shows
	$(CARGO) build --release --locked -p clusterip-lab
	$(CARGO) run --release --locked --quiet -p clusterip-lab --bin bench -- $(BENCH) > docs/benchmarks.txt.new
	mv docs/benchmarks.txt.new docs/benchmarks.txt

# An hour of trouble; 'make ordeal ORDEAL=--help' shows what there is to choose.
ordeal: deps build ## hours of random deeds and trouble on three nodes under traffic (root) [ORDEAL="--minutes 60"]
	@$(MISSING) $(ORDEAL_DEPS)
	$(CARGO) build --release --locked -p clusterip-lab
	$(TARGET)/release/ordeal $(ORDEAL)

test: deps ## the core: unit and property tests, and the scenarios with real packets (needs root)
	@echo "== formatting and lints"
	@$(MAKE) --no-print-directory lint
	@echo "== unit and property tests"
	$(CARGO) test --locked -p clusterip --features daemon
	@echo "== scenarios: namespaces, real packets, a real cluster"
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked -p clusterip-lab -- --test-threads=3

test-unprivileged: ## the scenarios that need no cluster, without root, in a user namespace
	$(CARGO) build --locked --workspace --bins
	unshare --user --map-root-user --mount --net sh -c \
	  'mount -t tmpfs tmpfs /run && exec $(CARGO) test --locked -p clusterip-lab -- $(NO_CLUSTER) --test-threads=2'

# The suite whose kernel the guest boots: bookworm has 6.1, trixie 6.12, trixie-backports the newest.
KERNEL ?= bookworm
# What of the scenarios goes by the kernel most, for those other kernels. (Open vSwitch and the files of other programs do
# not.)
ON_KERNELS := draining:: fragments:: judged:: dataplane:: golden:: neighbours:: one_answer:: many_vips:: interfaces:: \
              no_own_address:: saved:: vlans:: modes:: kinds:: switches:: overlays:: predecessors:: preflight:: \
              preflight_wire:: $(NO_CLUSTER)

# cargo starts a test program by way of a runner, which here is the guest.
IN_GUEST = $(CARGO) --config "target.'cfg(unix)'.runner = ['$(TARGET)/release/guest','--kernel','$(KERNEL)'$(1)]" \
           test --release --locked -p clusterip-lab --test scenarios --

test-guest: guest-deps ## the scenarios on another kernel of Debian's, in an emulated machine [ONLY=fragments] [KERNEL=trixie]
	$(CARGO) build --release --locked --workspace --bins
	$(call IN_GUEST) $(or $(ONLY),$(NO_CLUSTER)) --test-threads=1
	$(if $(ONLY),,$(call IN_GUEST,$(comma)'--without'$(comma)'nft_hash') lacking_kernel)

test-full: test ## adds what is slow: the scenarios without root and in the guest, and many more random cases
	@echo "== property tests, 20,000 cases each"
	PROPTEST_CASES=20000 $(CARGO) test --release --locked -p clusterip --features daemon
	@echo "== the agent killed at every system call"
	EVERY_SYSCALL=1 $(CARGO) test --locked -p clusterip-lab --test scenarios any_system_call
	@echo "== sixteen VIPs in networks of their own (released programs: two CPUs carry all monitors of three nodes)"
	$(CARGO) build --release --locked --workspace --bins
	$(CARGO) test --release --locked -p clusterip-lab --test scenarios -- --ignored --exact cluster_public::many_vips_in_networks_of_their_own_come_go_and_move
	@echo "== scenarios in a user namespace"
	@$(MAKE) --no-print-directory test-unprivileged
	@echo "== the package in a clean root"
	@$(MAKE) --no-print-directory test-deb test-rpm test-vagrant
	@echo "== unit tests and scenarios on Debian 13"
	@$(MAKE) --no-print-directory test-trixie
	@echo "== scenarios on other kernels"
	@$(MAKE) --no-print-directory test-guest
	@$(MAKE) --no-print-directory test-guest KERNEL=trixie ONLY="$(ON_KERNELS)"
	@$(MAKE) --no-print-directory test-guest KERNEL=trixie-backports ONLY="$(ON_KERNELS)"

# Debian 13's own compiler is the oldest that is promised; its clippy has other opinions.
IN_TRIXIE = packaging/fresh-root --keep trixie sh -euxc 'apt-get update -qq; apt-get upgrade -y -qq; \
            apt-get install -y -qq --no-install-recommends rustc cargo rustfmt rust-clippy ca-certificates; $(1)'

test-trixie: package-deps ## all tests on Debian 13 with its own Rust, Pacemaker 3 and nft 1.1 (needs root) [ONLY=fragments]
	$(call IN_TRIXIE,make deps; $(if $(ONLY),,cargo test --locked -p clusterip --features daemon;) \
	  cargo build --locked --workspace --bins; cargo test --locked -p clusterip-lab -- $(ONLY) --test-threads=2)

# Each clippy has opinions of its own: those of the version that is worked with are errors, others are told.
LINTED  := 1.95
STRICT   = $(if $(findstring rustc $(LINTED).,$(shell rustc --version)),-D warnings)

# Let chains want a newer Rust than is promised. The language of 2021 has none either, and rustfmt can be told.
lint: ## rustfmt, clippy and rustdoc, warnings are errors (with the Rust that is worked with)
	$(CARGO) fmt --all --check
	rustfmt --check --edition 2021 --config style_edition=2024 $(wildcard src/lib.rs src/bin/*.rs tests/*.rs tests/*/main.rs tests/*/lib.rs)
	$(CARGO) clippy --locked --workspace --all-targets --features clusterip/daemon --quiet -- $(STRICT)
	RUSTDOCFLAGS="$(STRICT)" $(CARGO) doc --locked --workspace --no-deps --document-private-items --features clusterip/daemon --quiet

# The newest one that the oldest promised Rust builds.
CARGO_MUTANTS := 26.0.0
MUTANTS_TOOL  := $(TARGET)/cargo-mutants-$(CARGO_MUTANTS)
# The files that are broken: the core, line by line. What is the shell's needs a kernel to be noticed.
MUTANTS       ?= src/model/*.rs src/rules/*.rs src/reading/*.rs src/plan/*.rs src/pacemaker/*.rs

mutants: $(MUTANTS_TOOL)/bin/cargo-mutants ## break the core on purpose, piece by piece: what does no test miss? (days) [MUTANTS=src/model/phase.rs]
	$(MUTANTS_TOOL)/bin/cargo-mutants mutants --package clusterip --no-shuffle --output $(TARGET) $(foreach file,$(MUTANTS),--file '$(file)')

$(MUTANTS_TOOL)/bin/cargo-mutants:
	$(CARGO) install --locked --root $(MUTANTS_TOOL) cargo-mutants --version $(CARGO_MUTANTS)

golden: ## write the reference rulesets in nft/ anew; review the diff (needs root)
	$(CARGO) build --locked --workspace --bins
	UPDATE_GOLDEN=1 $(CARGO) test --locked -p clusterip-lab --test scenarios golden

install: ## put the agent and nodectl where Pacemaker and people find them [DESTDIR=…]
	install -D -m 0755 $(TARGET)/release/ocf-clusterip $(DESTDIR)$(OCF)/ClusterIP
	install -D -m 0755 $(TARGET)/release/ocf-clusterip-drain $(DESTDIR)$(OCF)/ClusterIPDrain
	install -D -m 0755 $(TARGET)/release/nodectl $(DESTDIR)$(SBIN)/nodectl

install-data: pages ## the manual pages, completions, documents and examples too [DESTDIR=…]
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/,man/man7 man/man8 bash-completion/completions fish/vendor_completions.d) \
	  $(DESTDIR)$(ZSH) $(addprefix $(DESTDIR)$(DOC)/,docs nft ocf/ocft)
	install -m 0644 $(PAGES)/man7/* $(DESTDIR)$(PREFIX)/share/man/man7
	install -m 0644 $(PAGES)/man8/nodectl* $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 0644 $(PAGES)/completions/nodectl.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/nodectl
	install -m 0644 $(PAGES)/completions/nodectl.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	install -m 0644 $(PAGES)/completions/_nodectl $(DESTDIR)$(ZSH)
	install -m 0644 README.md $(DESTDIR)$(DOC)
	install -m 0644 docs/* $(DESTDIR)$(DOC)/docs
	install -m 0644 ocf/*.crm ocf/*.sh ocf/README.md $(DESTDIR)$(DOC)/ocf
	install -m 0644 ocf/ocft/* $(DESTDIR)$(DOC)/ocf/ocft
	install -m 0644 nft/* $(DESTDIR)$(DOC)/nft

install-daemon: pages ## the daemon, its unit and manual page, and what Prometheus and Grafana are given [DESTDIR=…]
	install -D -m 0755 $(TARGET)/release/clusteripd $(DESTDIR)$(SBIN)/clusteripd
	install -D -m 0644 packaging/clusteripd.service $(DESTDIR)$(UNITS)/clusteripd.service
	install -D -m 0644 packaging/clusteripd.sysusers $(DESTDIR)$(SYSUSERS)/clusteripd.conf
	install -D -m 0644 $(PAGES)/man8/clusteripd.8 $(DESTDIR)$(PREFIX)/share/man/man8/clusteripd.8
	install -d $(DESTDIR)$(SHARE)
	install -m 0644 packaging/clusterip.rules.yml packaging/clusterip.dashboard.json $(DESTDIR)$(SHARE)

# The packages are made by Debian's own tools from trees like those of an installation: $(call PACKAGE,name,its programs).
define PACKAGE
	cd $(DEB)/debian/$(1)/usr && install -d share/lintian/overrides share/doc/$(1) && \
	  install -m 0644 $(CURDIR)/packaging/debian/$(1).lintian-overrides share/lintian/overrides/$(1) && \
	  install -m 0644 $(CURDIR)/packaging/debian/copyright share/doc/$(1) && \
	  install -m 0644 $(CURDIR)/CHANGELOG.md share/doc/$(1)/changelog && \
	  install -m 0644 $(CURDIR)/packaging/debian/changelog share/doc/$(1)/changelog.Debian && \
	  strip --strip-unneeded $(2) && \
	  gzip -9n share/man/man?/* share/doc/$(1)/changelog share/doc/$(1)/changelog.Debian
	cd $(DEB) && dpkg-shlibdeps -Tdebian/$(1).substvars $(addprefix debian/$(1)/usr/,$(2))
	cd $(DEB)/debian/$(1) && install -d DEBIAN && find usr -type f -exec md5sum {} + > DEBIAN/md5sums
	for script in preinst postinst prerm postrm; do \
	  [ ! -e packaging/debian/$(1).$$script ] || \
	  install -m 0755 packaging/debian/$(1).$$script $(DEB)/debian/$(1)/DEBIAN/$$script; done
	cd $(DEB) && dpkg-gencontrol -p$(1) -Tdebian/$(1).substvars -Pdebian/$(1) -fdebian/files
	dpkg-deb --root-owner-group -Zxz --build $(DEB)/debian/$(1) $(TARGET)
endef

deb: package-deps build ## the Debian packages, in target
	rm -rf $(DEB) $(TARGET)/clusterip_*.deb $(TARGET)/clusteripd_*.deb && install -d $(DEB)/debian
	$(MAKE) --no-print-directory install install-data DESTDIR=$(DEB)/debian/clusterip PREFIX=/usr
	$(MAKE) --no-print-directory install-daemon DESTDIR=$(DEB)/debian/clusteripd PREFIX=/usr
	cp packaging/debian/control packaging/debian/changelog $(DEB)/debian
	$(call PACKAGE,clusterip,sbin/nodectl lib/ocf/resource.d/rust/ClusterIP lib/ocf/resource.d/rust/ClusterIPDrain)
	$(call PACKAGE,clusteripd,sbin/clusteripd)

test-deb: deps deb ## the packages by lintian, and in a clean Debian: used, purged, and in a cluster (needs root)
	lintian --fail-on error,warning $(TARGET)/clusterip_$(VERSION)-*.deb $(TARGET)/clusteripd_$(VERSION)-*.deb
	$(CARGO) build --locked --workspace --bins
	packaging/test-clean-root $(TARGET)/clusterip_$(VERSION)-*.deb $(TARGET)/clusteripd_$(VERSION)-*.deb \
	  $(CARGO) test --locked -p clusterip-lab --test scenarios -- --ignored cluster_packaged:: --nocapture

rpm: ## the RPM packages of what is committed, in target (wants rpmbuild)
	rm -rf $(RPM) && install -d $(RPM)/SOURCES
	git archive --prefix=clusterip-$(VERSION)/ -o $(RPM)/SOURCES/clusterip-$(VERSION).tar.gz HEAD
	CARGO_TARGET_DIR=$(TARGET) rpmbuild -bb --quiet $(RPMFLAGS) --define "_topdir $(RPM)" --define "version $(VERSION)" packaging/clusterip.spec
	rm -f $(TARGET)/clusterip-*.rpm $(TARGET)/clusteripd-*.rpm && cp $(RPM)/RPMS/*/*.rpm $(TARGET)

# rpmbuild sees to it that nothing is missing or left over; that the programs in it start is tried here. It is
# installed nowhere, for want of a system of that kind.
test-rpm: rpm-deps rpm ## the RPM package: built, unpacked, started
	cd $(RPM) && for package in clusterip clusteripd; do \
	  rpm2cpio $(TARGET)/$$package-$(VERSION)-*.rpm | cpio --extract --make-directories --quiet; done
	$(RPM)/usr/sbin/nodectl --version
	$(RPM)/usr/sbin/clusteripd --version
	$(RPM)/usr/lib/ocf/resource.d/rust/ClusterIP meta-data | grep -q 'name="ClusterIP"'
	$(RPM)/usr/lib/ocf/resource.d/rust/ClusterIPDrain meta-data | grep -q 'name="ClusterIPDrain"'

# vagrant itself says whether the description of the machines is one; none is booted.
test-vagrant: vagrant-deps deb ## the description of the virtual machines
	cd vagrant && vagrant validate --ignore-provider

uninstall: ## take them away again
	rm -f $(DESTDIR)$(OCF)/ClusterIP $(DESTDIR)$(OCF)/ClusterIPDrain $(DESTDIR)$(SBIN)/nodectl $(DESTDIR)$(SBIN)/clusteripd
	rm -f $(DESTDIR)$(UNITS)/clusteripd.service $(DESTDIR)$(SYSUSERS)/clusteripd.conf
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/,man/man7/ocf_rust_ClusterIP* man/man8/nodectl* man/man8/clusteripd.8* \
	  bash-completion/completions/nodectl fish/vendor_completions.d/nodectl.fish) $(DESTDIR)$(ZSH)/_nodectl
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/clusterip $(DESTDIR)$(SHARE)

clean: ## remove what was built
	$(CARGO) clean

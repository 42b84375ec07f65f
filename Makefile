# On a fresh Debian machine, as root, every target installs what it needs. The work is done by scripts/.
.DEFAULT_GOAL := help
.PHONY: help build test test-kata guest-kernel lab lab-shell demo bench bench-start bench-colocation bench-burst bench-knobs bench-deps bench-programs lint deps lab-deps engines fetch clean
SHELL := /bin/bash

# What the tests and the benchmark run: the binaries that are shipped, not those of a debug build.
export PLIMSOLL_DIST := $(CURDIR)/target/dist

RUST := scripts/with-rust

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## check for and install what building and testing need
	@scripts/deps

build: deps ## the static release binaries, in target/dist/
	@$(RUST) scripts/build

engines: deps ## the container engines the tests run, in target/engines/
	@scripts/engines

# For the target of the release binaries, as the lab builds the tests for its guests: they are built once.
test: build engines lab-deps guest-kernel ## build, then run every test, in the lab too (root: the tests start real containers)
	@result=0; $(RUST) scripts/test $(TEST_ARGS) || result=1; \
	$(if $(TEST_ARGS),,lab/run || result=1;) exit $$result

# Nothing of Kata's is here: it is tested with a stand-in for its shim, and so by whoever has a real one.
test-kata: build engines ## the checks of Kata with a real one: make test-kata KATA_SHIM=/path [KATA_CONFIG=/path] [CONTAINERD=/path]
	@KATA_SHIM="$(KATA_SHIM)" KATA_CONFIG="$(KATA_CONFIG)" $(if $(CONTAINERD),CONTAINERD="$(CONTAINERD)") \
	$(RUST) cargo test --locked --test kata_vm -- --include-ignored --exact real::a_real_kata_is_treated

# Debian's, as the lab's guests have it: what the virtual machines of the tests boot.
guest-kernel: lab-deps
	@[ -e target/guest-kernel/vmlinuz ] || lab/run --kernel target/guest-kernel/vmlinuz

lab: build engines lab-deps ## the tests inside real guest kernels under QEMU (GUEST="v2 v1": only those)
	@lab/run $(GUEST)

lab-shell: build engines lab-deps ## a shell in a guest of the lab: make lab-shell GUEST=v2
	@lab/run --shell $(GUEST)

# What is still missing after this the lab says itself: without it there is no guest, and in CI that is a failure.
lab-deps: deps
	-@scripts/deps lab

demo: build ## an online and an offline container, before and after
	@scripts/demo

# The operator's tool, which takes longest to build, has no part in it.
bench-programs: deps
	@$(RUST) scripts/build plimsoll-hook plimsoll-runtime containerd-shim-plimsoll-v2

# The driver needs no optimising: what it measures is in target/dist/, and programs of Debian.
BENCH := $(RUST) cargo bench --locked --profile dev --no-default-features --bench bench

bench: bench-programs bench-deps ## what Plimsoll costs a start and does for the node: target/bench/report.html, about 10 minutes
	@$(BENCH)

bench-start: bench-programs ## what a container start costs, against hooks and a wrapper that do nothing
	@$(BENCH) -- start

bench-colocation: bench-programs bench-deps ## nginx beside an x264 transcode, with and without Plimsoll
	@$(BENCH) -- colocation

bench-burst: bench-programs bench-deps ## a limited service whose requests come in bursts, with CPU burst off and on
	@$(BENCH) -- burst

bench-knobs: bench-programs bench-deps ## what else might help the slowest requests: an experiment, not part of bench
	@$(BENCH) -- knobs

bench-deps:
	@scripts/deps bench

lint: deps fetch ## format, clippy, licences, advisories
	@$(RUST) scripts/lint

# Only these need the network; everything after them runs offline.
fetch: deps
	@$(RUST) cargo fetch --locked

clean: ## remove everything that was built
	@$(RUST) cargo clean
	@rm -rf target/dist target/bench target/engines target/guest-kernel target/lab

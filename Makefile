# Each target is complete on a Debian 12 machine with root, Node >= 20 and npm: what is missing is installed first.
.DEFAULT_GOAL := help
.PHONY: help setup build lint format test test-vm bench demo clean

PACKAGES := node_modules/.installed

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1	\2/p' Makefile

setup: ## Debian's packages, Docker Engine and Open vSwitch for tests and benchmarks
	@scripts/setup.sh test

# Once for each package-lock.json; npm ci empties node_modules, so the stamp goes with what it vouches for.
$(PACKAGES): package-lock.json
	npm ci
	@touch $@

build: $(PACKAGES) ## bin/pipework and bin/pipewright
	node scripts/build.mjs

lint: $(PACKAGES) ## style, types, unused code
	npx biome check --error-on-warnings .
	npx tsc --noEmit
	npx knip

format: $(PACKAGES) ## write the style
	npx biome check --write .

test: setup lint build ## everything on this machine's kernel, then a short part of test-vm
	@scripts/setup.sh vm 120 || echo 'tests in a virtual machine will be skipped'
	node scripts/test.mjs --short

test-vm: build ## what a full kernel is needed for, on Debian's in virtual machines
	@scripts/setup.sh vm
	node scripts/test.mjs test/vm

bench: setup build ## side by side with ip, ovs-vsctl, docker network connect
	node scripts/bench.mjs

demo: $(PACKAGES) ## connect containers, ping, draw, take away
	@scripts/setup.sh demo
	@node scripts/build.mjs
	@node scripts/demo.mjs

clean: ## what was built
	rm -rf bin build

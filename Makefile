# KTR-AdV: every command of the README. Each installs what it needs (Debian 12, root or sudo); Go must be there.
SHELL := /bin/bash
GO ?= go
# Every Go module of the tree. `go test ./...` in the root does not reach a nested module; a test keeps this list whole.
MODULES := . kiosk/cpurender

# The card path needs cgo for libpcsclite; everything else builds without. gRPC without its trace pages links a sixth less.
TAGS := pcsc pkcs11 grpcnotrace
export GOFLAGS := -buildvcs=false
export GOAMD64 := v1
BIN := out/bin

.PHONY: help run image demo test test-long trace bench bench-pki bench-render gallery fuzz lint build test-oracle test-display test-image vm test-vm bench-vm bench-vm-peer deps deps-image deps-vm deps-display deps-oracle clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

deps:
	@tests/setup.sh base

deps-display:
	@tests/setup.sh base display

deps-image:
	@tests/setup.sh base image

deps-vm:
	@tests/setup.sh base image vm

deps-oracle:
	@tests/setup.sh base oracle

image: deps-image ## the terminal's image in out/image (OVERLAY=names under overlays/ or paths, default demo; OUT=folder; UPDATE=1: newest packages; PACKAGES=manifest.json: those of an earlier image)
	@$(GO) run ./image/cmd/mkimage -out $(or $(OUT),out/image) $(if $(UPDATE),-update) $(if $(PACKAGES),-packages $(PACKAGES)) $(or $(OVERLAY),demo)

build: deps ## the production binaries, in out/bin
	@mkdir -p $(BIN)
	CGO_ENABLED=1 $(GO) build -trimpath -ldflags='-s -w' -tags '$(TAGS)' -o $(BIN)/adv-kiosk ./kiosk/cmd/adv-kiosk
	CGO_ENABLED=1 $(GO) build -trimpath -ldflags='-s -w' -tags '$(TAGS)' -o $(BIN)/adv-server ./server/cmd/adv-server

run: ## terminal, reader, card, server and control panel on this machine
	@tests/setup.sh base $(if $(DISPLAY)$(WAYLAND_DISPLAY),window)
	@$(GO) run ./tests/demo/cmd/demo run $(if $(PANEL),-panel $(PANEL))

demo: deps ## play one visit, screen shots and steps under out/demo
	@$(GO) run ./tests/demo/cmd/demo play -out out/demo

demo-registration: deps ## certificate and registration, from an empty folder, out/demo-registration
	@$(GO) run ./tests/demo/cmd/registration -out out/demo-registration

test: deps ## every test; ends with the number of skips and why
	@rm -rf out/trace && mkdir -p out/trace
	@set -o pipefail; for m in $(MODULES); do \
	  (cd $$m && REQ_TRACE=$(CURDIR)/out/trace CGO_ENABLED=1 $(GO) test -count=1 -timeout 9m -tags '$(TAGS)' -json ./...) || true; \
	done | $(GO) run ./tests/cmd/testreport $(if $(wildcard ../shared/testdata),-shared)
	@for m in $(MODULES); do (cd $$m && $(GO) vet -tags '$(TAGS)' ./...) || exit 1; done
	@$(GO) run ./tests/cmd/trace -summary

test-long: deps ## the PKI core's tests with every place, thousands of cases beside openssl and xmlsec1, gigabytes (an hour)
	LONG=1 $(GO) test -count=1 -timeout 3h ./internal/ber ./internal/brainpool ./internal/cms ./internal/ocsp ./internal/tsl ./internal/x509ti ./internal/xmlsig ./server/erezept/... ./server/status ./server/trust ./server/verify/...

trace: ## the requirement catalogue with what is covered (out/trace.json)
	@[ -d out/trace ] || $(MAKE) test
	@$(GO) run ./tests/cmd/trace

bench: deps ## the product's figures (out/bench.json)
	@mkdir -p out && $(GO) run ./tests/cmd/bench -o out/bench.json

bench-pki: deps ## the PKI core's figures beside openssl's (out/bench-pki.json)
	@mkdir -p out && $(GO) run ./tests/cmd/bench-pki -o out/bench-pki.json

bench-render: deps-oracle deps-display ## the renderer's figures (out/bench-render.json)
	@mkdir -p out && rm -f out/bench-render.json
	cd kiosk/cpurender && $(GO) run -tags oracle ./cmd/bench-render -o $(CURDIR)/out/bench-render.json
	$(GO) test -count=1 -timeout 20m -tags vm ./tests/display -run TestFigures -bench-out $(CURDIR)/out/bench-render.json

gallery: ## every screen in every look, size and language (out/gallery/index.html)
	$(GO) run ./kiosk/cmd/gallery -o out/gallery

test-oracle: deps-oracle ## the renderer against Gio's own on llvmpipe
	cd kiosk/cpurender && $(GO) test -count=1 -tags oracle -run Oracle ./...

test-image: deps-vm ## the image: what is in it and what is not, built twice, both slots under UEFI
	$(GO) test -count=1 -timeout 40m -v -tags image ./image/build
	$(GO) test -count=1 -timeout 20m -v -tags vm ./tests/slots

bench-vm-peer: deps-vm ## a kiosk of Debian, cage and Chromium for comparison, in the same machine (adds to out/bench-vm.json; as root, 3 GB of disk, not part of CI)
	@tests/setup.sh vm-peer
	tests/peer/build.sh out/peer
	$(GO) run ./tests/peer -dir out/peer -o out/bench-vm.json

vm: deps-vm ## the production image in a virtual machine, with the control panel (READER=host:VID:PID: a real reader; UKI=1: by UEFI)
	@tests/setup.sh base $(if $(DISPLAY)$(WAYLAND_DISPLAY),vm-window)
	@$(GO) run ./tests/demo/cmd/demo vm $(if $(PANEL),-panel $(PANEL)) $(if $(READER),-reader $(READER)) $(if $(UKI),-uki)

test-vm: deps-vm ## visits, faults and the memory test on the production image in a virtual machine (out/vm/index.html)
	@mkdir -p out/trace
	@set -o pipefail; REQ_TRACE=$(CURDIR)/out/trace $(GO) test -count=1 -timeout 40m -tags vm -json ./tests/vm | $(GO) run ./tests/cmd/testreport $(if $(wildcard ../shared/testdata),-shared)

bench-vm: deps-vm ## the figures of the terminal in a virtual machine (out/bench-vm.json)
	@mkdir -p out
	$(GO) test -count=1 -timeout 60m -v -tags 'vm bench' ./tests/vm -run TestBench -bench-out $(CURDIR)/out/bench-vm.json

test-display: deps-display ## the renderer on DRM and evdev in QEMU
	$(GO) test -count=1 -timeout 20m -v -tags vm ./tests/display

fuzz: ## every fuzz test for FUZZTIME each (default 60s)
	@tests/fuzz.sh $(or $(FUZZTIME),60s) $(MODULES)

lint: ## formatting and vet over every module
	@test -z "$$(gofmt -l . | tee /dev/stderr)"
	@for m in $(MODULES); do (cd $$m && $(GO) vet ./... && $(GO) vet -tags '$(TAGS) demo' ./...) || exit 1; done

clean:
	rm -rf out

# `make` builds bin/cairn; `make run` starts it; `make test` is what CI runs.
# A new checkout needs Go, make and git; everything else comes through go.mod.

GO       ?= go
BIN      := bin/cairn
DATA     ?= data
PKGS     := ./...
# Go files that are ours, for gofmt: everything that git tracks or could track.
GOFILES   = $(shell git ls-files --cached --others --exclude-standard '*.go')

.PHONY: all build run test check fmt vet staticcheck tidy unit test-e2e test-clients drill bench soak clean test-ui web web-check

all: build

build: $(BIN)

# The binary is static: no C compiler is needed, and strace can follow it in fault tests.
.PHONY: $(BIN)
$(BIN):
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/cairn

run: build
	./$(BIN) server --data $(DATA)

test: check unit test-e2e

check: fmt vet staticcheck tidy web-check

fmt:
	@bad=$$(gofmt -l $(GOFILES)); if [ -n "$$bad" ]; then echo "not gofmt-ed:"; echo "$$bad"; exit 1; fi

vet:
	$(GO) vet $(PKGS)
	$(GO) vet -tags e2e ./e2e/...
	$(GO) vet -tags clients ./clients/
	$(GO) vet -tags ui ./uitest/

staticcheck:
	$(GO) tool staticcheck $(PKGS)
	$(GO) tool staticcheck -tags e2e ./e2e/...

tidy:
	$(GO) mod tidy -diff

# The import table is the test in internal/arch.
# Three packages at a time, since many of their tests wait for disks. The race detector needs a C compiler; without one the same tests run without it, and say so.
RACE := $(if $(shell command -v gcc || command -v cc || command -v clang),-race,)
unit:
	@test -n "$(RACE)" || echo "NOTE: no C compiler found: running the tests without the race detector"
	$(GO) test $(RACE) -p 3 -timeout 15m $(PKGS)
	$(if $(RACE),$(MAKE) sweep simulate)

# Under the race detector the sweeps over disk operations try one in 7 or 20; here they try every one.
.PHONY: sweep
sweep:
	GOGC=400 $(GO) test -run Sweep -v -timeout 10m ./datanode ./meta/replica

# Under the race detector the simulated cluster runs a few seeds; here it runs 200.
.PHONY: simulate
simulate:
	$(GO) test -timeout 10m ./internal/simcluster

# The real binary, without the race detector, on real directories.
test-e2e: build
	CAIRN_BINARY=$(CURDIR)/$(BIN) $(GO) test -tags e2e -count=1 -timeout 20m ./e2e/
	CAIRN_BINARY=$(CURDIR)/$(BIN) $(GO) test -tags e2e -count=1 -timeout 5m -skip TestDrill ./e2e/drill/

# Twelve processes in network namespaces, one fault after the other under load; prints a table. Needs root and iproute2.
drill: build
	CAIRN_BINARY=$(CURDIR)/$(BIN) CAIRN_DRILL_JSON=$(CURDIR)/e2e/drill/results.json \
		$(GO) test -tags e2e -count=1 -timeout 40m -v -run 'TestDrill$$' ./e2e/drill/

# Stock clients, each against a fresh server, a PASS or FAIL line per case. Installs them from packages.
test-clients: build
	./clients/install.sh
	CAIRN_BINARY=$(CURDIR)/$(BIN) $(GO) test -tags clients -count=1 -timeout 60m ./clients/ -v | grep -E '^(PASS|FAIL|SKIP|NOTE|ok|panic)|^ {4}'

# The dashboard: web/src and web/vendor become web/dist, which is committed and part of the binary.
web:
	cd web/build && $(GO) run .

web-check:
	cd web/build && $(GO) run . -check

# The dashboard in a real browser, which the first line installs. Screenshots stay in bin/ui.
test-ui: build
	./uitest/install.sh
	CAIRN_BINARY=$(CURDIR)/$(BIN) $(GO) test -tags ui -count=1 -timeout 15m ./uitest/ -v

# BENCH_SHORT=1 measures a tenth of the matrix.
bench: build
	./$(BIN) bench suite --results bench/results.json $(if $(BENCH_SHORT),--short)

# The nightly run: the same tests, longer and more often.
soak: build
	CAIRN_BINARY=$(CURDIR)/$(BIN) CAIRN_SOAK=1 $(GO) test -tags e2e -count=1 -timeout 4h ./e2e/...
	CAIRN_SOAK=1 $(GO) test -timeout 4h ./internal/simcluster
	$(GO) test $(RACE) -count=5 -timeout 4h $(PKGS)

clean:
	rm -rf bin bench/results.json

# Two commands matter: `make cluster-up` and `make test`. Needs Go and make.

BINARIES   := vmstorage vminsert vmselect victoria-metrics
VERSION    := $(shell git describe --always --dirty --tags 2>/dev/null || echo unknown)
GO         := CGO_ENABLED=0 go
LDFLAGS    := -s -w -X main.version=$(VERSION)
FUZZTIME   ?= 5s
BENCH      ?= .
PKG        ?= ./lib/...
COUNT      ?= 6

.PHONY: all build $(BINARIES) cluster-up test lint fmt race fuzz-short bench bench-compare bench-peers bench-crash clean

all: build

build: $(BINARIES)

$(BINARIES):
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/$@ ./app/$@

# Builds, starts 2 vmstorage, vminsert and vmselect on loopback, feeds them
# their own metrics, and stops everything on Ctrl-C.
cluster-up: build
	$(GO) build -trimpath -o bin/clusterup ./app/internal/clusterup
	@exec bin/clusterup -bin bin -data cluster-data

test: build
	$(GO) vet ./...
	$(GO) test -timeout 20m ./...

# The packages with goroutines, under the race detector (needs cgo and a C compiler).
race:
	CGO_ENABLED=1 go test -race -short -timeout 20m ./lib/... ./app/internal/...

lint: .tools/bin/golangci-lint
	.tools/bin/golangci-lint run ./...

.tools/bin/golangci-lint: .tools/go.mod
	cd .tools && $(GO) build -o bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.tools/bin/benchstat: .tools/go.mod
	cd .tools && $(GO) build -o bin/benchstat golang.org/x/perf/cmd/benchstat

fmt:
	gofmt -w app lib

# Runs every fuzz target for FUZZTIME.
fuzz-short:
	@set -e; for pkg in $$(grep -rl --include='*_test.go' '^func Fuzz' app lib | xargs -n1 dirname | sort -u); do \
		for target in $$(grep -rhoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' $$pkg/*_test.go | cut -d' ' -f2); do \
			echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) ./$$pkg; \
		done; \
	done

bench:
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) $(PKG)

# Compares the benchmarks of the working tree with those of REF: make bench-compare REF=main BENCH=Ingest PKG=./lib/storage
bench-compare: .tools/bin/benchstat
	@test -n "$(REF)" || { echo 'usage: make bench-compare REF=<commit> [BENCH=regexp] [PKG=packages] [COUNT=n]'; exit 2; }
	@set -e; tmp=$$(mktemp -d); trap 'git worktree remove --force '$$tmp'/ref; rm -rf '$$tmp EXIT; \
	git worktree add --quiet --detach $$tmp/ref $(REF); \
	(cd $$tmp/ref && $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) $(PKG)) > $$tmp/old.txt; \
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) $(PKG) > $$tmp/new.txt; \
	.tools/bin/benchstat $$tmp/old.txt $$tmp/new.txt

# Measures us beside Debian's victoria-metrics and prometheus, see docs/benchmarks.md: make bench-peers BENCH_FLAGS='-datasets a -repeat 5'
bench-peers: build
	$(GO) build -trimpath -o bin/vmbench ./app/vmbench
	bin/vmbench run -bin bin $(BENCH_FLAGS)

# Kills storage processes under load and checks that nothing acknowledged is lost.
bench-crash: build
	$(GO) build -trimpath -o bin/vmbench ./app/vmbench
	bin/vmbench crash -bin bin $(BENCH_FLAGS)

clean:
	rm -rf bin cluster-data .tools/bin

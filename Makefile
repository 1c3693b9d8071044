# Two commands matter: `make cluster-up` and `make test`. Needs Go and make.

BINARIES   := vmstorage vminsert vmselect victoria-metrics vmbackup vmrestore vmbackupmanager
VERSION    := $(shell git describe --always --dirty --tags 2>/dev/null || echo unknown)
GO         := CGO_ENABLED=0 go
LDFLAGS    := -s -w -X main.version=$(VERSION)
FUZZTIME   ?= 5s
BENCH      ?= .
PKG        ?= ./lib/...
COUNT      ?= 6

.PHONY: all build $(BINARIES) cluster-up test lint fmt race fuzz-short bench bench-compare chart clean \
	vmbench bench-all bench-peers bench-prometheus bench-corpus bench-floor bench-scale bench-churn bench-memory bench-soak bench-crash bench-answers bench-tables \
	bench-replication bench-fanout bench-parsers crash crash-long chaos-long props-long backup-emulators faults cluster-faults mixed limits manifests images

all: build

build: $(BINARIES)

$(BINARIES):
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/$@ ./app/$@

# Builds, starts 2 vmstorage, vminsert and vmselect on loopback, feeds them
# their own metrics, and stops everything on Ctrl-C.
cluster-up: build
	$(GO) build -trimpath -o bin/clusterup ./app/internal/clusterup
	@exec bin/clusterup -bin bin -data cluster-data

# Without the cache of tests for the modules of tests: it does not see that files outside of a module change.
test: build
	$(GO) vet ./...
	$(GO) test -timeout 20m ./...
	cd deployment/tests && $(GO) vet ./... && $(GO) test -count=1 -timeout 10m -parallel 6 ./...
	cd app/apptest/producers && $(GO) vet ./... && $(GO) test -count=1 -timeout 10m ./...

# The packages with goroutines, under the race detector (needs cgo and a C compiler). Without those that link the client libraries of AWS and
# Azure: these would be compiled for the race detector alone, which takes minutes. What they have of ours is in lib/backup/objects and gcsstore as well, which stay.
# And without those that have nothing which two goroutines could share.
NO_RACE := lib/backup/(s3store|azurestore)|app/internal/(backuptool|dashboards|flagcompat)|lib/(archtest|consistenthash|errkind|fragment|graphite|metricsql|nativehistogram|prompb|tsdump)($$|/)
race:
	CGO_ENABLED=1 go test -race -short -timeout 20m $$(go list ./lib/... ./app/internal/... | grep -Ev '$(NO_RACE)')

lint: .tools/bin/golangci-lint
	.tools/bin/golangci-lint run ./...
	cd deployment/tests && ../../.tools/bin/golangci-lint run -c ../../.golangci.yml ./...
	cd app/apptest/producers && ../../../.tools/bin/golangci-lint run -c ../../../.golangci.yml ./...

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

# The measurements of docs/benchmarks.md, a target for each table. They append to $(RESULTS), which bench-tables
# prints; BENCH_FLAGS adds flags: make bench-peers BENCH_FLAGS='-datasets a -repeat 1'
VMBENCH     := bin/vmbench
RESULTS     ?= results.jsonl
REPEAT      ?= 3
BENCH_OUT   := -bin bin -out $(RESULTS)
ALL_PEERS   := ours-cluster,ours-single,vm-single,prometheus

vmbench: build
	$(GO) build -trimpath -o $(VMBENCH) ./app/vmbench

# Ingestion, memory, disk, queries: the datasets a, b, c, d and a with jittered timestamps.
bench-peers: vmbench
	$(VMBENCH) run $(BENCH_OUT) -peers ours-cluster,ours-single,vm-single -datasets a,a-late,b,churn,c,d -repeat $(REPEAT) $(BENCH_FLAGS)

# The same of Prometheus, which takes ten times as long: once.
bench-prometheus: vmbench
	$(VMBENCH) run $(BENCH_OUT) -peers prometheus -datasets a,c,d $(BENCH_FLAGS)

# Disk, on data that compression is tuned on (tune) and on data it is judged by (judge, kube).
bench-corpus: vmbench
	$(VMBENCH) run $(BENCH_OUT) -peers $(ALL_PEERS) -datasets tune,judge,kube -n 0 -cold '' $(BENCH_FLAGS)

# What the least work costs on this machine.
bench-floor: vmbench
	$(VMBENCH) run $(BENCH_OUT) -peers floor-decode,floor-lookup -datasets a -repeat $(REPEAT) $(BENCH_FLAGS)

# Two targets that fail when a sample costs more with more writers or series, and when a steady load is not borne.
bench-scale: vmbench
	$(VMBENCH) scale $(BENCH_OUT) -peers ours-single $(BENCH_FLAGS)

bench-soak: vmbench
	$(VMBENCH) soak $(BENCH_OUT) -peers ours-single $(BENCH_FLAGS)

# Replaced series, and writes of known series beside new ones.
bench-churn: vmbench
	$(VMBENCH) churn $(BENCH_OUT) -peers $(ALL_PEERS) -repeat $(REPEAT) $(BENCH_FLAGS)

# Memory of a million series over an hour of scrapes, and ours with half of it.
bench-memory: vmbench
	$(VMBENCH) memory $(BENCH_OUT) -peers ours-single,vm-single -budget $(BENCH_FLAGS)

# Random histories on a file system with faults, thousands of crash points, and damage of every kind of file: see docs/reliability.md.
crash:
	$(GO) test -count=1 -timeout 20m -run 'Crash|Damage|Full|Killed|Failing' ./lib/wal ./lib/storage/...

# The same with new histories for MINUTES minutes.
MINUTES ?= 60
crash-long:
	VMCLUSTER_CRASH_MINUTES=$(MINUTES) $(GO) test -count=1 -timeout 0 -run TestCrashLong ./lib/storage

# Random histories of whole clusters with broken networks, dying nodes and wrong clocks, for MINUTES minutes.
chaos-long:
	VMCLUSTER_CHAOS_MINUTES=$(MINUTES) $(GO) test -count=1 -timeout 0 -run TestChaosLong ./lib/clustertest

# Random queries: points do not depend on the range, the number of nodes, of workers or the order of series. MINUTES for each property.
props-long:
	VMCLUSTER_QUERY_MINUTES=$(MINUTES) $(GO) test -count=1 -timeout 0 -run TestProperty ./lib/query

# Real processes: kill -9 under load, full disks, a disk that fails. Needs root for the file systems it mounts.
faults:
	$(GO) test -count=1 -timeout 20m -run 'TestKilled|TestReadersWhile|TestFullDisk|TestDiskFails|TestFrozen' ./app/apptest

# What clients see of faults in a cluster of real processes, for the table in docs/reliability.md; FAULT is one of its names, or a regular
# expression. Some need root, since they mount file systems. Takes half an hour; the short form is part of `make test`.
FAULT ?= .*
cluster-faults:
	@set -e; table=$$(mktemp); trap 'rm -f '$$table EXIT; \
	VMCLUSTER_FAULTS_TABLE=$$table $(GO) test -count=1 -timeout 0 -run 'TestClusterFaults/^($(FAULT))$$' ./app/apptest || status=$$?; \
	cat $$table; exit $${status:-0}

# The tests of the stores of backups against programs of others. Start them first, make a bucket, and name what you have:
#   s3://      any service: VMCLUSTER_S3_ENDPOINT=http://127.0.0.1:9000 VMCLUSTER_S3_BUCKET=backups AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...
#              (MinIO; versitygw posix DIR; or moto of Python: python3 -m moto.server)
#   gs://      fake-gcs-server -scheme http -port 4443 -backend memory -external-url http://127.0.0.1:4443:
#              VMCLUSTER_GCS_ENDPOINT=http://127.0.0.1:4443 VMCLUSTER_GCS_BUCKET=backups
#   azblob://  azurite-blob --inMemoryPersistence: VMCLUSTER_AZURE_CONTAINER=backups AZURE_STORAGE_ACCOUNT_CONNECTION_STRING=...
backup-emulators:
	$(GO) test -count=1 -timeout 30m -v -run TestEmulator ./lib/backup/s3store ./lib/backup/gcsstore ./lib/backup/azurestore

# Clusters of two versions, this one and OLD: make mixed OLD=v1.0, where storage nodes are replaced over their data unless STORAGE=stays.
mixed:
	@test -n "$(OLD)" || { echo 'usage: make mixed OLD=<commit>'; exit 2; }
	@set -e; tmp=$$(mktemp -d); trap 'git worktree remove --force '$$tmp'/old; rm -rf '$$tmp EXIT; \
	git worktree add --quiet --detach $$tmp/old $(OLD); \
	(cd $$tmp/old && $(GO) build -trimpath -o $$tmp/bin/ ./app/vmstorage ./app/vminsert ./app/vmselect); \
	VMCLUSTER_OLD_BIN=$$tmp/bin VMCLUSTER_OLD_STORAGE=$(STORAGE) $(GO) test -count=1 -timeout 20m -v -run TestMixedVersions ./app/apptest

# Requests that ask for far too much, over SERIES series, with 512 MiB for each process.
SERIES ?= 1000000
limits:
	VMCLUSTER_LIMITS_SERIES=$(SERIES) $(GO) test -v -count=1 -timeout 0 -run 'TestGreedy|TestHangUp' ./app/apptest

# What copies cost, and what more storage nodes cost: CPU of every process, bytes between them, queries.
bench-replication: vmbench
	$(VMBENCH) growth $(BENCH_OUT) -compare replication -repeat $(REPEAT) $(BENCH_FLAGS)

bench-fanout: vmbench
	$(VMBENCH) growth $(BENCH_OUT) -compare fanout -repeat $(REPEAT) $(BENCH_FLAGS)

# Kills storage processes under load and checks that nothing acknowledged is lost.
bench-crash: vmbench
	$(VMBENCH) crash $(BENCH_OUT) -peer ours-cluster $(BENCH_FLAGS)

# Compares answers value by value.
bench-answers: vmbench
	$(VMBENCH) compare -bin bin -peers ours-cluster,vm-single -dataset a $(BENCH_FLAGS)

# Parsers beside the floor (reading and decompressing the same bytes) and beside those of Prometheus and OTLP, in CPU time.
bench-parsers:
	cd app/apptest/producers && $(GO) test -run '^$$' -bench '$(BENCH)' -benchtime 1s -count $(REPEAT) ./parsers

# One after the other; what fails does not keep the others from being measured.
bench-all:
	-$(MAKE) bench-floor
	-$(MAKE) bench-peers
	-$(MAKE) bench-prometheus
	-$(MAKE) bench-corpus
	-$(MAKE) bench-scale
	-$(MAKE) bench-churn
	-$(MAKE) bench-memory
	-$(MAKE) bench-soak
	-$(MAKE) bench-replication
	-$(MAKE) bench-fanout
	-$(MAKE) bench-crash
	-$(MAKE) bench-answers
	$(MAKE) bench-tables

bench-tables:
	@test -x $(VMBENCH) || $(MAKE) vmbench
	@$(VMBENCH) table -base vm-single $(RESULTS)

# The Helm charts as packages in build/, with the same bytes from the same files; needs GNU tar. Links among templates become files (-h).
CHARTS := $(notdir $(wildcard deployment/helm/*))
chart:
	@mkdir -p build
	@set -e; for chart in $(CHARTS); do \
		package=build/$$chart-$$(sed -n 's/^version: //p' deployment/helm/$$chart/Chart.yaml).tgz; \
		tar -h -C deployment/helm --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --format=ustar -cf - $$chart | gzip -9n > $$package; \
		echo $$package; \
	done

# The overlays of deployment/kubernetes as single files, build/<overlay>.yaml.
manifests:
	cd deployment/tests && $(GO) run ./cmd/manifests ../../build ../kubernetes/base ../kubernetes/overlays/*

# Images of all binaries, vmcluster/<binary>:$(VERSION), by the first of these that is there. The same commit gives the same images:
# files have the time of the commit. make images BASE=scratch leaves out the shell.
ENGINE            ?= $(firstword $(foreach e,docker podman buildah,$(shell command -v $(e))))
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)
IMAGE_FLAGS        = --build-arg VERSION=$(VERSION) $(if $(BASE),--build-arg BASE=$(BASE))
images: $(addprefix image-,$(BINARIES))

image-%:
	@test -n "$(ENGINE)" || { echo 'cannot build images: there is no docker, podman or buildah'; exit 1; }
ifeq ($(notdir $(ENGINE)),docker)
	docker buildx build $(IMAGE_FLAGS) --build-arg SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) --provenance=false \
		--output type=docker,rewrite-timestamp=true -t vmcluster/$*:$(VERSION) -f deployment/docker/$*/Containerfile .
else
	$(ENGINE) build $(IMAGE_FLAGS) --format docker --timestamp $(SOURCE_DATE_EPOCH) --ignorefile .dockerignore \
		-t vmcluster/$*:$(VERSION) -f deployment/docker/$*/Containerfile .
endif

clean:
	rm -rf bin build cluster-data .tools/bin

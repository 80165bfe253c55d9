# What to type: make run, make test. `make help` lists the rest.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c

VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GO_FILES     = $(shell git ls-files --cached --others --exclude-standard '*.go')

GOFUMPT     := go run mvdan.cc/gofumpt@v0.12.0
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := go run golang.org/x/vuln/cmd/govulncheck@v1.9.0

# For test: PKG=./store/... RUN=TestApply. Nothing is taken from the cache (-count=1): some tests build and run the server.
PKG         ?= ./...
RUN         ?= .
TIMEOUT     ?= 20m
FUZZTIME    ?= 60s
# Build tags of the tests that need a real log, a real object store, and around a real process other name servers, or programs that change zones.
REAL        := kafka,s3,chaos,peers,tools
CHAOS       ?= 15s
# For bench and bench-peers, flags of cmd/balefire-bench: BENCH='-large 0', PEERS='-parts udp -rounds 2 -slice 500ms'
ZONES       ?=
BENCH       ?=
PEERS       ?=
# For bench-cluster: which parts, and flags of cmd/balefire/clusterbench.
CLUSTER       ?= .
CLUSTER_FLAGS ?=

.PHONY: help build run test test-here test-real test-million test-secondaries chaos bench bench-peers bench-cluster lint vuln fuzz clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

build: ## bin/balefire
	go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/balefire ./cmd/balefire

run: build ## a node on loopback with the sample zones; its data stays in ./balefire-data
	bin/balefire serve --sample testdata/zones/sample

test: test-here test-real ## every test, with the race detector; installs what they use: name servers, clients, Kafka, an S3 server

test-here: ## the tests that need neither Kafka nor S3
	.ci/packages test
	PATH=$$PATH:/usr/sbin:/sbin go test -race -count=1 -timeout $(TIMEOUT) -run '$(RUN)' $(PKG)

test-real: ## the tests against a real Apache Kafka, from Maven, a real S3 server, other name servers, lego, certbot and Kea, and between network namespaces (root)
	.ci/packages real
	PATH=$$PATH:/usr/sbin:/sbin go test -race -count=1 -p 1 -timeout $(TIMEOUT) -tags '$(REAL)' -run 'Kafka|S3|OtherServers|Tools' \
		$$(grep -rlE '^//go:build .*(kafka|s3|peers|tools)' --include='*_test.go' replication cmd | xargs -n1 dirname | sort -u | sed 's|^|./|')

test-secondaries: ## 100,000 secondary zones of one primary; 10 to 20 minutes; ZONES='-zones 10000' for less
	.ci/packages test
	cd cmd/balefire/contract && go test -count=1 -timeout 1h -tags many -v -run TestManySecondaries -args $(ZONES)

test-million: ## a zone of a million names is transferred, also while it is changed, in memory that is bounded; some minutes
	.ci/packages test
	PATH=$$PATH:/usr/sbin:/sbin go test -count=1 -tags million -v -run TestMillion ./dnsserver/interop ./cmd/balefire/contract

chaos: ## clusters under one kind of fault after another, about 20 minutes; CHAOS=5s for each kind is less
	.ci/packages real
	PATH=$$PATH:/usr/sbin:/sbin go test -count=1 -timeout 2h -tags '$(REAL)' -v ./cmd/balefire/chaos -args -chaos-time $(CHAOS)

bench: build ## figures of Balefire alone, a few minutes; BENCH='-large 0' for less
	go build -trimpath -o bin/balefire-bench ./cmd/balefire-bench
	go test -run '^$$' -bench 'Serve|UDP|Parse|Append|Resolve|FindHot|FindCold|Apply' -benchmem ./dnsserver/... ./zones/answer ./store
	bin/balefire-bench -balefire bin/balefire -parts own $(BENCH)

bench-peers: build ## tables of Balefire beside NSD, Knot, gdnsd, BIND and PowerDNS; PEERS='-parts udp -rounds 2 -slice 500ms' for some of them
	.ci/packages peers
	go build -trimpath -o bin/balefire-bench ./cmd/balefire-bench
	@PATH=$$PATH:/usr/sbin:/sbin bin/balefire-bench -balefire bin/balefire $(PEERS)

# In its directory, go test shows what is printed while it runs.
bench-cluster: ## figures of whole clusters, about 15 minutes; CLUSTER='Visible|Far' for some of them, CLUSTER_FLAGS='-rounds 50 -fleet 20' for less
	.ci/packages real
	cd cmd/balefire/clusterbench && go test -count=1 -timeout 1h -tags '$(REAL),clusterbench,million,many' -run '$(CLUSTER)' -args $(CLUSTER_FLAGS)

lint: ## gofumpt, go mod tidy, go vet, staticcheck
	@unformatted=$$($(GOFUMPT) -l $(GO_FILES)); \
	if [ -n "$$unformatted" ]; then echo "gofumpt would change:"; echo "$$unformatted"; exit 1; fi
	go mod tidy -diff
	go vet ./...
	go vet -tags '$(REAL),clusterbench,million,many' ./...
	$(STATICCHECK) ./...

vuln: ## known vulnerabilities in what is linked; says so when the database can't be reached
	@out=$$(mktemp); trap 'rm -f "$$out"' EXIT; \
	if $(GOVULNCHECK) ./... >"$$out" 2>&1; then cat "$$out"; \
	elif grep -qE 'fetching vulnerabilities|vuln\.go\.dev.*(dial|lookup|no such host|connect|EOF|timeout|Forbidden|status)' "$$out"; then \
		cat "$$out"; echo "vuln: NOT CHECKED: the vulnerability database can't be reached from here"; \
	else cat "$$out"; exit 1; fi

fuzz: ## each fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

clean: ## what building made; the data of `make run` stays
	rm -rf bin

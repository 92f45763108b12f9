# The commands of this project. `make demo` shows it at work, `make test` proves it; `make help` lists the rest.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.installed-requirements.lock
DEVELOPMENT := $(VENV)/.installed-requirements-dev.lock
EDITABLE := $(VENV)/.installed-project
CODE := sidecar interceptors detectors clients/python tests bench examples tools
STUBS := clients/python/langtrain/v1
PROMISED := proto/baseline.binpb

COMPILED_TESTS ?= tests/interceptors tests/relay tests/limits tests/audit/test_lines.py tests/telemetry/test_meter.py \
	tests/fuzz/test_differential.py tests/fuzz/test_targets.py tests/policy tests/identity
FUZZ_SECONDS ?= 1200
FUZZED := server_frames client_frames header_blocks messages timeout metadata config
SOAK_SECONDS ?= 1800
BENCHES := bench-relay bench-relay-first bench-in-memory bench-limits bench-access bench-api-keys bench-upstream-faults bench-overload bench-operations \
	bench-capacity bench-telemetry-outage bench-soak bench-abuse bench-differential

.PHONY: help demo test compiled test-compiled peers test-peers soak test-soak check check-proto venv format proto proto-promise docs bench \
	$(BENCHES) performance fuzz lock clean samples

help:  ## list these commands
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-18s %s\n", $$1, $$2}' Makefile

demo: $(RUNTIME)  ## a model server, the sidecar and a client at work, in under three minutes
	@PYTHONPATH=$(CURDIR)/clients/python $(BIN)/python -m sidecar demo

test: $(EDITABLE)  ## every test; one whose part is not installed is skipped and says why
	@tools/tests $(BIN)/python

compiled: $(EDITABLE)  ## the modules that every call runs through as machine code, in .cache/compiled (needs gcc)
	@$(BIN)/python tools/compiled.py

test-compiled: compiled  ## the tests of these modules, as compiled; COMPILED_TESTS names others
	@EXPECTED_BUILD=compiled PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/.cache/compiled:$(CURDIR) \
		$(BIN)/python -m pytest -o pythonpath= -m "not slow and not soak" tests/test_build.py $(COMPILED_TESTS)

peers: $(EDITABLE)  ## what `make test` needs so that it skips nothing: MLServer, KServe, Envoy, grpc-js, Go, C++, Java
	@$(BIN)/python -m tests.peers.venvs
	@$(BIN)/python -m tests.peers.toolchains

test-peers: peers  ## the tests with real peers that take minutes
	@REQUIRE_PARTS=1 $(BIN)/python -m pytest -m slow -o timeout=1800

soak: $(EDITABLE)  ## mixed load for SOAK_SECONDS (1800): every answer checked, every call recorded, memory watched
	@$(BIN)/python -m bench.soak mixed --seconds $(SOAK_SECONDS) --out .cache/soak.json

test-soak: $(EDITABLE)  ## the tests that take many minutes: hundreds of reloads, kills and stops under load
	@$(BIN)/python -m pytest -m soak -o timeout=3600 tests/e2e

venv: $(EDITABLE)  ## the development environment, in .venv

$(RUNTIME): requirements.lock
	@tools/environment $(VENV) requirements.lock

$(DEVELOPMENT): requirements-dev.lock
	@tools/environment $(VENV) requirements-dev.lock

$(EDITABLE): $(DEVELOPMENT) pyproject.toml clients/python/pyproject.toml
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation \
		--editable . --editable clients/python
	@touch $@

check: $(EDITABLE)  ## format, lint, types, import rules, protocol files: under a minute
	@$(BIN)/ruff format --check --quiet . || { echo "make format mends this"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary $(foreach folder,$(CODE),$(if $(wildcard $(folder)/*),$(folder)))
	@report=$$($(BIN)/lint-imports) || { echo "$$report"; exit 1; }
	@$(BIN)/python -m sidecar config reference | cmp -s - docs/configuration.md || \
		{ echo "docs/configuration.md is not what the schema says: make docs"; exit 1; }
	@$(BIN)/python -m sidecar.telemetry.reference | cmp -s - docs/metrics.md || \
		{ echo "docs/metrics.md is not what the table says: make docs"; exit 1; }
	@$(BIN)/python -m tests.relay.http2.h2spec | cmp -s - docs/http2-conformance.md || \
		{ echo "docs/http2-conformance.md is not what h2spec's cases say: make docs"; exit 1; }
	@$(BIN)/python tools/permissions | cmp -s - docs/permission-reference.md || \
		{ echo "docs/permission-reference.md is not what proto/ says: make docs"; exit 1; }
	@$(MAKE) --no-print-directory check-proto

check-proto: $(EDITABLE)
	@$(BIN)/buf lint
	@$(BIN)/buf breaking --against $(PROMISED)
	@made=$$(mktemp -d) && trap "rm -rf $$made" EXIT && tools/stubs $$made && \
		diff -rq -x __pycache__ -x __init__.py $$made/langtrain/v1 $(STUBS) || \
		{ echo "$(STUBS) is not what proto/ says: make proto"; exit 1; }

format: $(EDITABLE)  ## put the code into its format
	@$(BIN)/ruff check --quiet --fix-only . && $(BIN)/ruff format --quiet .

proto: $(EDITABLE)  ## write the clients' stubs from the protocol files
	@tools/stubs clients/python

proto-promise: $(EDITABLE)  ## at a release: what proto/ says now is never broken from here on
	@$(BIN)/buf build --exclude-source-info --output $(PROMISED)

docs: $(EDITABLE)  ## write the references of configuration, metrics, HTTP/2 and permissions from what the program says and does
	@$(BIN)/python -m sidecar config reference > docs/configuration.md
	@$(BIN)/python -m sidecar.telemetry.reference > docs/metrics.md
	@$(BIN)/python -m tests.relay.http2.h2spec > docs/http2-conformance.md
	@$(BIN)/python tools/permissions > docs/permission-reference.md

bench: $(BENCHES)  ## every measurement that the documents quote

bench-relay: $(EDITABLE)  ## CPU time per call of every kind of load, beside Envoy, nginx, nghttpx, haproxy and grpc.aio
	@$(BIN)/python -m bench.relay

performance: $(EDITABLE)  ## write the tables of docs/performance.md from the results of bench-relay
	@$(BIN)/python -m bench.performance

bench-relay-first: $(EDITABLE)  ## the same of the smallest chain and its ways of tracing, beside Envoy
	@$(BIN)/python -m bench.relay first-4x8 first-32x1

bench-in-memory: compiled  ## CPU time of the relay's own code per call, interpreted and compiled
	@$(BIN)/python -m bench.in_memory
	@PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/.cache/compiled:$(CURDIR) $(BIN)/python -m bench.in_memory

bench-limits: $(EDITABLE)  ## time of a take from the ledger of rate limits, alone and beside another process
	@$(BIN)/python -m bench.limits

bench-access: compiled  ## knowing who calls and deciding what they may do: of calls, of conditions, among many, of many keys
	@$(BIN)/python -m bench.access
	@PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/.cache/compiled:$(CURDIR) $(BIN)/python -m bench.access_in_memory
	@PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/.cache/compiled:$(CURDIR) $(BIN)/python -m bench.policy

bench-api-keys: $(EDITABLE)  ## a look-up among a thousand and a million API keys, and what workers' memory grows by
	@$(BIN)/python -m bench.api_keys

bench-overload: $(EDITABLE)  ## goodput, latency, memory and health at five times the capacity
	@$(BIN)/python -m bench.overload

bench-upstream-faults: $(EDITABLE)  ## how soon calls fail and succeed again when model servers go wrong
	@$(BIN)/python -m bench.upstream_faults

bench-soak: $(EDITABLE)  ## memory and losses under long load: mixed, cancelled, idle connections, streams, slow readers
	@$(BIN)/python -m bench.soak

bench-abuse: $(EDITABLE)  ## hostile clients and a hostile model server, with an honest caller beside them
	@$(BIN)/python -m bench.abuse

bench-operations: $(EDITABLE)  ## what callers notice of rotations, reloads, kills, stops, revocations and limits
	@$(BIN)/python -m bench.operations

bench-capacity: $(EDITABLE)  ## memory of processes, connections and calls, bytes on disk, series of metrics (as root)
	@$(BIN)/python -m bench.capacity

bench-telemetry-outage: $(EDITABLE)  ## what a collector that is away costs, and that no span is lost uncounted (as root)
	@$(BIN)/python -m bench.telemetry_outage

bench-differential: $(EDITABLE)  ## 100,000 frame sequences to each of our sides, beside h2 and nghttp2: no forbidden difference
	@$(BIN)/python -m tests.fuzz.differential --out bench/results/differential.json

fuzz: $(EDITABLE)  ## coverage-guided fuzzing of all that parses, FUZZ_SECONDS each; what it finds is in .cache/fuzz
	@for target in $(FUZZED); do \
		$(BIN)/python -m tests.fuzz $$target --seconds $(FUZZ_SECONDS) || exit 1; \
		$(BIN)/python -m tests.fuzz $$target --keep || exit 1; \
	done

samples: $(EDITABLE)  ## what of the product document runs as written, call by call; DOCUMENT names another copy
	@$(BIN)/python -m bench.samples $(DOCUMENT)

lock:  ## resolve pyproject.toml into the lock files again
	@tools/lock

clean:  ## remove environments, caches and build outputs
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist

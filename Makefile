# Two commands do everything: `make quickstart` and `make test`. Both set up .venv with the versions in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
BENCH_PEERS ?= vllm sglang guidellm aiperf inference-perf
PIP := PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: quickstart test check pytest test-duckdb test-slow test-fleet test-engines bench-load bench-load-peers bench-plan bench-fleet bench-handover bench-warehouse sim-parity train torture torture-short clean

quickstart: .venv/installed
	$(BIN)/fleetbench submit matrices/smoke/quickstart.yaml --new

test: check pytest

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# On two cores at once: first what is small, test by test; then engines and clusters, file by file, the longest first; then fleets
# that take all of a machine.
APART := artifact benching catalog cli infra judge matrices matrix plan report store warehouse
LAST := tests/fleet/test_cluster.py tests/fleet/test_torture.py
pytest: .venv/installed-dev
	$(BIN)/python -m pytest --numprocesses 2 $(APART:%=tests/%)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(APART:%=--ignore tests/%) $(LAST:%=--ignore %)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(LAST)

test-slow: .venv/installed-train
	$(BIN)/python -m pytest -m "slow and not engines"

# The warehouse once more, on the other DuckDB that it is made for: constraints.txt has one, this installs the other beside it.
DUCKDB := duckdb==1.5.6
test-duckdb: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target build/duckdb "$(DUCKDB)"
	PYTHONPATH=build/duckdb $(BIN)/python -m pytest --numprocesses 2 tests/warehouse tests/store

# Clusters that grow by demand, launches over several nodes, runs as jobs, runs followed from elsewhere, and the deaths that
# `make torture-short` has too: some minutes.
test-fleet: .venv/installed-dev
	$(BIN)/python -m pytest -m fleet

# Installs vLLM for CPUs, llmcompressor, transformers and wheels (7 GB in all) below build/engines, then starts them, makes
# checkpoints with them and checks flags against them.
ENGINES := build/engines
test-engines: .venv/installed-dev
	$(BIN)/python tests/engines/setup.py $(ENGINES)
	FLEETBENCH_VLLM=$(CURDIR)/$(ENGINES)/vllm FLEETBENCH_WHEELS=$(CURDIR)/$(ENGINES)/wheels \
	FLEETBENCH_LLMCOMPRESSOR=$(CURDIR)/$(ENGINES)/llmcompressor \
	FLEETBENCH_TRANSFORMERS_VENV=$(CURDIR)/$(ENGINES)/transformers $(BIN)/python -m pytest -m engines

# BENCH='--quick --tool none' runs a short form of ours alone; `python -m tests.bench.load --help` lists all options.
bench-load: .venv/installed
	$(BIN)/python -m tests.bench.load $(BENCH)

# Plans of 1,000 to 100,000 cells: seconds and peak memory. BENCH='--runs 1 --form table' for the table.
bench-plan: .venv/installed
	$(BIN)/python -m tests.bench.planning $(BENCH)

# The order of launches on 256 simulated nodes: makespan over its bound. BENCH='--seeds 5 --scenario few-nodes' for more.
bench-fleet: .venv/installed
	$(BIN)/python -m tests.bench.fleet $(BENCH)

# A real fleet of pretended machines (root, iproute2, util-linux), hurt at moments that SEED decides, and looked at after.
# TORTURE='--only network,raylet' narrows it; a folder that it kept goes on by TORTURE='--resume FOLDER'.
SEED ?= 1
torture: .venv/installed
	$(BIN)/python -m tests.torture --seed $(SEED) --kills 200 $(TORTURE)

torture-short: .venv/installed
	$(BIN)/python -m tests.torture --seed $(SEED) --moments 10 --fleet short --hurry 0.3 $(TORTURE)

# How long nodes idle between launches on a real fleet of 10 nodes that play GPUs. BENCH='--nodes 40' as a soak.
bench-handover: .venv/installed
	$(BIN)/python -m tests.bench.handover $(BENCH)

# Marts, sketches and raw rows of 20,000 cells and 100 M gaps, made by seed (some minutes, 500 MB below build/); pandas over
# JSON files beside it. BENCH='--nights 2' is small, BENCH=--keep asks the same warehouse again.
bench-warehouse: .venv/installed-dev
	$(BIN)/python -m tests.bench.warehouse $(BENCH)

# Two parity gates, the naive one and ours, on candidates whose drop is known. BENCH='--seed 2' for others.
sim-parity: .venv/installed
	$(BIN)/python -m tests.bench.parity $(BENCH)

bench-load-peers:
	@for peer in $(BENCH_PEERS); do \
	  $(PYTHON) -m venv build/peers/$$peer && \
	  build/peers/$$peer/bin/python -m pip install --quiet --disable-pip-version-check $$peer || \
	  echo "$$peer: not installed, bench-load leaves it out"; \
	done

train: .venv/installed-train
	$(BIN)/python -m fleetbench.artifact.training.train build/tiny

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "fleetbench needs Python 3.11 to 3.13; set PYTHON=")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	@touch $@ .venv/installed

.venv/installed-train: .venv/installed-dev
	$(PIP) --editable '.[dev,train]'
	@touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

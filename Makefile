# Two commands do everything: `make quickstart` and `make test`. Both set up .venv with the versions in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
BENCH_PEERS ?= vllm sglang guidellm aiperf inference-perf
PIP := PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: quickstart test check pytest test-slow bench-load bench-load-peers train clean

quickstart: .venv/installed
	$(BIN)/fleetbench submit matrices/smoke/quickstart.yaml --new

test: check pytest

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

pytest: .venv/installed-dev
	$(BIN)/python -m pytest

test-slow: .venv/installed-train
	$(BIN)/python -m pytest -m slow

# BENCH='--quick --tool none' runs a short form of ours alone; `python -m tests.bench.load --help` lists all options.
bench-load: .venv/installed
	$(BIN)/python -m tests.bench.load $(BENCH)

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

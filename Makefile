# The one front door for commands. Everything needed is set up by the target that needs it, on a machine with Python 3.11+, git and make.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
DEMO := build/demo
SIMULATE ?= 3
# Tests at a time: they mostly wait, so that two suit two cores. 0 runs them in one process.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest

help: ## show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv with everything for development
$(STAMP): pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 " + "$(MAKECMDGOALS)")'
	@$(PYTHON) -m venv $(VENV) || { echo "no venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: $(STAMP) ## the whole product with simulated Pis (SIMULATE=3); prints what to try
	$(BIN)/pictl up --data-dir $(DEMO) --simulate $(SIMULATE)

run-mesh: $(STAMP) ## the same, one process for each service
	$(BIN)/python -m tools.mesh --data-dir build/mesh --simulate $(SIMULATE)

agent: $(STAMP) ## one simulated Pi: make agent ADDRESS=HOST:8443 TOKEN_FILE=PATH
	@test -n "$(ADDRESS)" -a -n "$(TOKEN_FILE)" || { echo "say where to: make agent ADDRESS=127.0.0.1:8443 TOKEN_FILE=path (pictl token create -o json)" >&2; exit 2; }
	$(BIN)/pictl join $(ADDRESS) --token-file $(TOKEN_FILE) --data-dir build/agent
	PICONTROLLER_AGENT__BACKEND=sim $(BIN)/pictl agent run --data-dir build/agent

test: $(STAMP) ## unit, rpc, contract and integration tests (PyPI only, no root)
	$(PYTEST) tests --ignore tests/real --ignore tests/bench --numprocesses $(WORKERS) --dist loadfile

test-real: $(STAMP) ## an emulated Raspberry Pi with a real gpiochip (Debian packages, Go)
	$(PYTEST) tests/real -p no:randomly --timeout 900

lint: $(STAMP) ## ruff, mypy, import contracts, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy libs services agent gateway
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory proto-check

format: $(STAMP) ## format the Python code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

proto: $(STAMP) ## generate code from the protos
	$(BIN)/python -m tools.proto generate

proto-check: $(STAMP) ## lint the protos, compare with the baseline, check that generated code is fresh
	$(BIN)/python -m tools.proto lint
	$(BIN)/python -m tools.proto breaking
	$(BIN)/python -m tools.proto check

fuzz: $(STAMP) ## 50,000 mutated requests against a running control plane (PICONTROLLER_FUZZ_SEED, PICONTROLLER_FUZZ_REQUESTS)
	$(BIN)/python -m tests.fuzz

bench: $(STAMP) ## measure; prints ratios against limits taken in the same run
	$(BIN)/python -m tests.bench

build: $(STAMP) ## the wheel, in dist/
	$(BIN)/python -m build --no-isolation --wheel --outdir dist .

clean: ## remove what was built, but not .venv
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: help setup run run-mesh agent test test-real lint format proto proto-check fuzz bench build clean

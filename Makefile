# Everything that is done with this repository has a name here. Needs Python ≥ 3.11 and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS ?= 2
export HOUNSFIELD_DATA ?= $(wildcard $(CURDIR)/../shared/data)

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-e2e lint types format bench evaluate clean

help: ## list the commands
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv with everything installed

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: setup ## start everything, analyse a brain MRI, show the result
	$(BIN)/hounsfield demo

up: setup ## run Hounsfield on http://127.0.0.1:8000 until Ctrl-C
	$(BIN)/hounsfield up

test: setup ## unit, contract and integration tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/unit tests/contract
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/integration

test-e2e: setup ## the same against real external servers (installs Debian's Ceph, Chromium and DCMTK, as root)
	$(BIN)/python -m tests.e2e.ceph install
	$(BIN)/python -m tests.e2e.browser install
	$(BIN)/python -m tests.e2e.dcmtk install
	$(BIN)/python -m pytest tests/e2e

lint: setup ## ruff, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup ## mypy, strict
	$(BIN)/mypy

format: setup ## let ruff format and mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

evaluate: setup ## measure the catalogue's models on the held-out data (needs HOUNSFIELD_DATA)
	$(BIN)/python -m serving.training.evaluate

bench: setup ## benchmarks: ratios against named peers
	$(BIN)/python -m benchmarks.pipeline_overhead
	$(BIN)/python -m benchmarks.auth
	$(BIN)/python -m benchmarks.upload
	$(BIN)/python -m benchmarks.ingest

clean: ## remove what tools left behind (not .venv)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo-output .hounsfield-demo
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

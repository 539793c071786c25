# One command for each job; every target sets up what it needs in .venv first.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup serve test check bench format lock clean

VENV := .venv
BIN := $(VENV)/bin
PLATFORM := $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)
LOCK := requirements/$(PLATFORM).txt
MODEL := models/smollm2-135m-instruct
EXTRAS := --extra local --extra s3 --extra demo --extra train --extra dev
PYTHON ?= $(firstword $(foreach p,python3 python3.12 python3.11 python3.13,$(shell \
    $(p) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1)' 2>/dev/null && echo $(p))))
SOURCES := adapter_cache app benchmarks contracts flora loadtest replicas routing tests

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 14

setup: $(BIN)/.installed-$(PLATFORM) $(BIN)/.editable $(MODEL)/config.json ## the environment in .venv and the demo model in models/

serve: setup ## start everything on this machine: Valkey, Ray, the engine, the API; ARGS="--port 9000" adds options
	$(BIN)/flora serve --demo flora/demo/adapters $(ARGS)

PYTEST_TWO := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 10

test: setup ## all tests, two files at a time; ARGS="tests/app" runs these alone
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(PYTEST_TWO) -m "not vllm"
	$(PYTEST_TWO) -m vllm
endif

check: $(BIN)/.installed-$(PLATFORM) $(BIN)/.editable ## format, lint, strict types, import contracts, docs completeness
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_docs.py

bench: setup ## tokens/s of the engine with and without adapters; ARGS="--quick" for a coarse answer
	$(BIN)/flora bench engine $(ARGS)

format: $(BIN)/.installed-$(PLATFORM) ## rewrite the sources in the one format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lock: $(BIN)/.installed-$(PLATFORM) ## resolve requirements/*.txt anew from pyproject.toml
	@for platform in cpu cuda; do \
	    echo "==> requirements/$$platform.txt"; \
	    UV_SYSTEM_CERTS=true $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	        --upgrade --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	        --excludes requirements/$$platform-excludes.txt --extra engine-$$platform $(EXTRAS) \
	        $(UV_ARGS) --output-file requirements/$$platform.txt \
	        pyproject.toml requirements/$$platform.in; \
	done

clean: ## remove the environment, the models and every cache
	rm -rf $(VENV) models build dist .cache .hypothesis .pytest_cache .mypy_cache .ruff_cache
	rm -rf *.egg-info benchmarks/results/scratch
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (set PYTHON=...)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(BIN)/.installed-$(PLATFORM): $(LOCK) requirements/install.sh | $(BIN)/python
	@command -v g++ >/dev/null || \
	    { echo "g++ is needed to build the CPU kernel (Debian, Ubuntu: apt-get install g++)" >&2; exit 1; }
	requirements/install.sh $(VENV) $(LOCK)
	@rm -f $(BIN)/.installed-* && touch $@

$(BIN)/.editable: pyproject.toml | $(BIN)/.installed-$(PLATFORM)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(MODEL)/config.json: | $(BIN)/.editable
	$(BIN)/flora models prepare

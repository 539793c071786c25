# One command for each job; every target sets up what it needs in .venv first.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
# Without bytecode on disk every process of a server compiles Ray anew: twice the time to start.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help setup speech browser serve test check check-types check-code check-docs site audit dist sbom bench format lock clean

VENV := .venv
BIN := $(VENV)/bin
PLATFORM := $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)
LOCK := requirements/$(PLATFORM).txt
MODEL := models/smollm2-135m-instruct
SPEECH_MODEL := models/whisper-base
EXTRAS := --extra local --extra s3 --extra demo --extra train --extra docs --extra loadtest --extra dev
PYTHON ?= $(firstword $(foreach p,python3 python3.12 python3.11 python3.13,$(shell \
    $(p) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1)' 2>/dev/null && echo $(p))))
SOURCES := adapter_cache app benchmarks contracts flora k8s loadtest replicas routing tests

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 14

setup: $(BIN)/.installed-$(PLATFORM) $(BIN)/.editable $(MODEL)/config.json ## the environment in .venv and the demo model in models/

speech: setup $(SPEECH_MODEL)/config.json ## the demo speech model, Whisper base, in models/

browser: ## Chromium for the tests of the console, where there is none: from Debian's packages, as root
	@requirements/browser.sh

serve: setup ## start everything on this machine: Valkey, Ray, the engine, the API; ARGS="--port 9000" adds options
	$(BIN)/flora serve --demo flora/demo/adapters $(ARGS)

MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs
PYTEST_TWO := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 10

test: setup browser ## all tests, two files at a time; ARGS="tests/app" runs these alone
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(PYTEST_TWO) -m "not vllm"
	$(PYTEST_TWO) -m vllm
endif

check: $(BIN)/.installed-$(PLATFORM) $(BIN)/.editable ## format, lint, strict types, import contracts, docs completeness, the site, known weaknesses
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target check-types check-code check-docs

check-types:
	$(BIN)/mypy

check-code:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	requirements/audit.sh $(VENV) $(LOCK) || [ $$? -eq 69 ]  # 69: the service does not answer here

check-docs:
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_docs.py
	$(MKDOCS) build --strict --quiet

site: $(BIN)/.installed-$(PLATFORM) $(BIN)/.editable ## the documentation in build/site; ARGS=serve shows it and follows changes
	$(MKDOCS) $(or $(ARGS),build --strict)

audit: $(BIN)/.installed-$(PLATFORM) ## known weaknesses of the locked packages
	requirements/audit.sh $(VENV) $(LOCK)

dist: setup ## wheel and source distribution in dist/ with what they are made of, the wheel tried in an environment of its own
	rm -rf dist build/lib build/bdist.*
	$(BIN)/uv build --quiet --no-build-isolation --out-dir dist
	$(MAKE) --no-print-directory sbom
	requirements/try_wheel.sh $(VENV) $(LOCK) $(MODEL)

sbom: $(BIN)/.installed-$(PLATFORM) $(BIN)/.editable ## bill of materials (CycloneDX) and licences of the locked packages, in dist/
	requirements/sbom.sh $(VENV) dist

bench: setup ## tokens/s of the engine with and without adapters; ARGS="--quick" for a coarse answer
	$(BIN)/flora bench engine $(ARGS)

format: $(BIN)/.installed-$(PLATFORM) ## rewrite the sources in the one format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

COMPILE := UV_SYSTEM_CERTS=true $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
    --upgrade --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: $(BIN)/.installed-$(PLATFORM) ## resolve requirements/*.txt anew from pyproject.toml
	@for platform in cpu cuda; do \
	    echo "==> requirements/$$platform.txt"; \
	    $(COMPILE) --excludes requirements/$$platform-excludes.txt --extra engine-$$platform $(EXTRAS) \
	        $(UV_ARGS) --output-file requirements/$$platform.txt \
	        pyproject.toml requirements/$$platform.in; \
	done
	$(COMPILE) $(UV_ARGS) --output-file requirements/release.txt requirements/release.in

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

$(SPEECH_MODEL)/config.json: requirements/speech.txt | $(BIN)/.editable
	$(BIN)/python -m pip install -qq --no-deps --requirement requirements/speech.txt
	$(BIN)/flora models prepare-speech
	@touch $@

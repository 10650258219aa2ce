# Every target sets up what it needs: a virtual environment in .venv with the versions, and the bytes, that the lock files pin.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCKS := requirements.lock requirements-dev.lock deploy/torch.lock
LOCKED := $(shell cat pyproject.toml $(LOCKS) 2>/dev/null | cksum | cut -d' ' -f1)
READY := $(VENV)/.ready-$(LOCKED)
READY_TO_RUN := $(VENV)/.ready-to-run-$(LOCKED)
INSTALL := $(BIN)/python -m pip install --progress-bar off
# Each file's sha256 is checked; what a package depends on is in the lock file itself.
LOCKED_INSTALL := $(INSTALL) --no-deps --require-hashes
# pip's progress in a line per package; all that it says is kept in a file.
SHORTLY := 2>&1 | tee -a $(VENV)/install.log | { grep --line-buffered -E '^ *(Collecting|Installing|Successfully|ERROR|error)' || true; } | cut -c1-100
TYPES := .build/types
KERNEL := $(wildcard hub/runtime/kernel/native/*)
DOCS := .venvs/docs/bin

.PHONY: help setup test lint format types test-fast test-slow test-engines test-hf-suite battery battery-release bench bench-gpu \
        bench-registry attack demo docs browser screenshots lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 18

setup: $(READY)  ## make the virtual environment

# What the demo runs: the package with its own dependencies.
$(READY_TO_RUN): pyproject.toml requirements.lock deploy/torch.lock $(KERNEL)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "lorahub needs Python 3.11 or newer: make PYTHON=python3.11 …"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages into $(VENV) (a few minutes the first time) …"
	@$(LOCKED_INSTALL) -r requirements.lock $(SHORTLY)
	@$(INSTALL) -r deploy/torch.lock $(SHORTLY)
	@$(INSTALL) --no-deps --no-build-isolation -e . $(SHORTLY)
	@$(BIN)/python -c 'from hub.runtime import kernel; print("4-bit kernel:", kernel.describe())' 2>/dev/null
	@rm -f $(VENV)/.ready-*; touch $@

# What the tests need besides.
$(READY): $(READY_TO_RUN) requirements-dev.lock
	@echo "Installing what the tests need …"
	@$(LOCKED_INSTALL) -r requirements-dev.lock $(SHORTLY)
	@touch $@

test: lint types test-fast  ## everything that must pass: linter, types, tests

lint: $(READY)  ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Links that look as the package is installed: cli/ is hub.cli, web/ is hub.web.
.PHONY: $(TYPES)
$(TYPES):
	@rm -rf $(TYPES) && mkdir -p $(TYPES)/hub
	@for entry in $(CURDIR)/hub/*; do ln -s $$entry $(TYPES)/hub/; done
	@for part in cli web migrations; do ln -s $(CURDIR)/$$part $(TYPES)/hub/$$part; done

types: $(READY) $(TYPES)  ## mypy, over the tree as it is installed
	cd $(TYPES) && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p hub

test-fast: $(READY) browser
	$(BIN)/python -m pytest -m "not slow and not engines" -n 2 --dist loadfile -q

test-slow: $(READY) browser  ## the long suites
	$(BIN)/python -m pytest -m "slow" -q --timeout=3000

test-engines: $(READY)  ## other versions of the Hugging Face clients and vLLM, each in an environment of its own
	$(BIN)/python -m tests.hf.environments
	$(BIN)/python -m pytest -m "engines" -q --timeout=3000

test-hf-suite: $(READY)  ## huggingface_hub's own tests against a server of this tree
	$(BIN)/python -m tests.hf.suite

battery: $(READY)  ## drawn adapters against PEFT, 200 cases in minutes; writes docs/fidelity.md
	$(BIN)/python -m tests.battery --cases 200 --write docs/fidelity.md

battery-release: $(READY)  ## the same with 10,000 cases, for hours
	$(BIN)/python -m tests.battery --cases 10000 --write docs/fidelity.md

bench: $(READY)  ## the runtime beside PEFT, and the Hugging Face wire beside our own client
	$(BIN)/python -m benchmarks.runtime
	$(BIN)/python -m benchmarks.hf

bench-gpu: $(READY)  ## the runtime on a CUDA device: its tests, then its measures; DRY_RUN=1 tries both anywhere
	$(BIN)/python -m pytest -m gpu -q tests/runtime
	$(BIN)/python -m benchmarks.gpu $(if $(DRY_RUN),--dry-run)

bench-registry: $(READY)  ## the registry beside cp + sha256 and MLflow
	$(BIN)/python -m benchmarks.registry

attack: $(READY)  ## hostile input of every kind, bounded, on loopback: a bomb per parser, fuzzing, slow clients
	LORAHUB_ATTACK_ROUNDS=10 $(BIN)/python -m pytest -q --timeout=3000 tests/attack tests/hf/test_fuzz.py \
	  tests/hf/test_json_bodies.py tests/hf/test_xet_uploads.py tests/web/test_openapi.py tests/formats tests/xet \
	  tests/registry/test_derived.py tests/catalog/test_insight.py tests/catalog/test_cards.py
	$(BIN)/python -m tests.attack.slow_clients

demo: $(READY_TO_RUN)  ## train, push, browse, load in 4 bit, switch, merge: for real
	$(BIN)/lorahub demo

docs: $(READY) $(TYPES)  ## the documentation as a site, in .build/site
	@test -x $(DOCS)/mkdocs || { $(PYTHON) -m venv .venvs/docs && $(DOCS)/python -m pip install -q -r docs/requirements.txt; }
	@$(BIN)/python -m hub.web.api > docs/openapi.json
	NO_MKDOCS_2_WARNING=1 $(DOCS)/mkdocs build --strict --quiet
	@echo "The site is in .build/site: open .build/site/index.html"

screenshots: $(READY) browser  ## the pictures in docs/images, of a registry made for them
	$(BIN)/python -m tests.catalog.screenshots catalog

# The catalog's tests need a browser. Where this machine lets us install one, do; else those tests say why they are skipped.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 || \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && \
	  echo "Installing chromium for the catalog's tests …" && apt-get update -qq >/dev/null && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium strace >/dev/null; } || true

lock: $(READY)  ## pin what is installed now, with its hashes
	@test -x .venvs/lock/bin/uv || { $(PYTHON) -m venv .venvs/lock && .venvs/lock/bin/python -m pip install -q uv; }
	$(BIN)/python deploy/lock.py .venvs/lock/bin/uv

clean:  ## remove what the targets made
	rm -rf $(VENV) .venvs .build .mypy_cache .ruff_cache .pytest_cache .hypothesis

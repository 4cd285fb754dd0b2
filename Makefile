# `make demo` and `make test` need nothing but Python 3.11 or later: each sets up a local environment first.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/pytest -n 2 --dist loadfile
# LOCKED=1 installs the versions of requirements.lock instead of the newest that pyproject.toml allows.
LOCK   := $(if $(LOCKED),-c requirements.lock)
# The stamp is keyed by the checkout's path: an environment that was moved or copied is built again.
STAMP  := $(VENV)/.installed-$(shell pwd | cksum | cut -d' ' -f1)$(if $(LOCKED),-locked)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check docs lock clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## */\1	/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

demo: $(STAMP)  ## figure 2c: theory, exact posterior and NUTS as a table, sample files and figures in demo/
	$(BIN)/gibbsformer demo --out demo

test: $(STAMP)  ## the default tests, minutes on two cores; no GPU and no network needed
	$(PYTEST) -m "not slow and not gpu"

test-slow: $(STAMP)  ## the long statistical tests, left out of `make test`
	$(PYTEST) -m "slow and not gpu"

check: $(STAMP)  ## formatter, linter, type checker
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(STAMP)  ## the documentation site in build/site; a broken link or reference fails
	$(PIP) $(LOCK) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock: $(STAMP)  ## requirements.lock: the newest versions that pyproject.toml allows, for all supported Pythons
	$(PIP) uv
	$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --extra dev --extra docs --extra sweeps \
	  --no-emit-package gibbsformer --no-annotate --no-header --no-emit-index-url --no-emit-find-links pyproject.toml --output-file requirements.lock

clean:  ## remove what was built, the environment and the demo
	rm -rf $(VENV) demo build dist *.egg-info

$(STAMP): pyproject.toml $(if $(LOCKED),requirements.lock)
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) $(LOCK) -e '.[dev]'
	touch $@

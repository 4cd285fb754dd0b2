# Every target sets up the environment in .venv first; that takes Python 3.11 or later and nothing else.
# With LOCKED=1 it gets the versions in requirements.lock instead of the newest ones that pyproject.toml allows.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/pytest -n 2 --dist loadfile
TRIALS ?= 20
SEED   ?= 0
LOCK   := $(if $(filter-out 0,$(LOCKED)),-c requirements.lock)
# The stamp carries the path of the checkout, so that an environment which was moved or copied is rebuilt.
STAMP  := $(VENV)/.installed-$(shell pwd | cksum | cut -d' ' -f1)$(if $(LOCK),-locked)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow attack check docs notebooks bench lock offline clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(STAMP)  ## reproduce figure 2c: a table, sample files and figures in demo/
	$(BIN)/gibbsformer demo --out demo

test: $(STAMP)  ## run the default tests: minutes on two cores, no GPU, no network
	$(PYTEST) -m "not slow and not gpu"

test-slow: $(STAMP)  ## run the long statistical tests, which the default leaves out, on optimised programs
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(PYTEST) -m "slow and not gpu"

attack: $(STAMP)  ## attack files, disks and workers, and count what comes of it: TRIALS=20 of each kind, SEED=0
	$(BIN)/python -m tests.attack --trials $(TRIALS) --seed $(SEED)

check: $(STAMP)  ## run the formatter, the linter and the type checker
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(STAMP)  ## build the documentation site in build/site; a broken link or reference fails
	$(PIP) $(LOCK) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

TUTORIALS := quickstart hidden_markov own_sequences read_with_arviz activations
notebooks: $(STAMP)  ## run the tutorials as notebooks, and write their pages with output
	$(PIP) $(LOCK) -e '.[docs]'
	mkdir -p build/notebooks
	set -e; for name in $(TUTORIALS); do \
	  $(BIN)/jupytext --quiet --set-kernel python3 --to ipynb --execute --run-path build/notebooks --output docs/tutorials/$$name.ipynb tutorials/$$name.py; \
	  sed -i -E 's|[^ "]*/ipykernel_[0-9]+/[0-9]+\.py|cell|' docs/tutorials/$$name.ipynb; \
	  $(BIN)/jupyter nbconvert --log-level ERROR --to markdown docs/tutorials/$$name.ipynb; \
	  sed -i -e 's/!\[png\]/![Output of the cell above]/' -e 's/^<div>$$/<div style="overflow-x:auto">/' docs/tutorials/$$name.md; \
	done

bench: $(STAMP)  ## run the benchmarks at small sizes, with one record each in bench/
	$(BIN)/gibbsformer bench --quick

lock: $(STAMP)  ## update requirements.lock to the newest versions that pyproject.toml allows
	$(PIP) uv
	$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --all-extras --no-annotate \
	  --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml

# Platforms that a Linux machine with glibc 2.28 or later runs; wheels are matched by name.
PLATFORMS := $(foreach glibc,2_28 2_27 2_26 2_24 2_17 2_12 2_5,--platform manylinux_$(glibc)_x86_64) \
  --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64
# What a machine with JAX has already.
WITH_JAX  := $(if $(filter-out 0,$(CUDA)),,$(foreach name,jax jaxlib numpy scipy ml-dtypes opt-einsum,--no-emit-package $(name)))
VERSION   = $(if $(filter 3.%,$(PYTHON)),$(PYTHON),$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
OFFLINE   := build/offline

offline:  ## gather in build/offline what a machine without network needs: PYTHON=3.12, CUDA=1 for JAX with CUDA too
	rm -rf $(OFFLINE)
	python3 -m venv build/tools
	build/tools/bin/python -m pip install --quiet --disable-pip-version-check uv pip build
	mkdir -p $(OFFLINE)/wheels
	build/tools/bin/uv pip compile --quiet pyproject.toml $(if $(filter-out 0,$(CUDA)),--extra cuda) $(WITH_JAX) \
	  --python-version $(VERSION) --python-platform x86_64-manylinux_2_28 --no-header --no-annotate \
	  --output-file $(OFFLINE)/requirements.txt
	build/tools/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
	  --python-version $(VERSION) --implementation cp $(PLATFORMS) --dest $(OFFLINE)/wheels -r $(OFFLINE)/requirements.txt
	build/tools/bin/python -m build --wheel --outdir $(OFFLINE)/wheels .
	cp benchmarks/offline.sh $(OFFLINE)
	du -sh $(OFFLINE)

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) demo build dist *.egg-info

$(STAMP): pyproject.toml $(if $(LOCK),requirements.lock)
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) $(LOCK) -e '.[dev]'
	touch $@

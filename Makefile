# `make demo` and `make test`, from nothing but Python 3.11+: each sets up a local environment first.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# The stamp is keyed by the checkout's path: a moved or copied environment is made anew.
STAMP  := $(VENV)/.installed-$(shell pwd | cksum | cut -d' ' -f1)

.PHONY: demo test check docs clean

demo: $(STAMP)
	$(BIN)/gibbsformer demo --out demo

test: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow and not gpu"

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(STAMP)  # the site, in build/site; a broken link or reference fails
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(STAMP): pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo build dist *.egg-info

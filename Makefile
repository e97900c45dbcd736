# make demo | test | fast | lint | bench | clean
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q
DEMO ?= classifier

# One install serves every target; it is repeated only when what it was made from has changed.
STAMP := $(VENV)/.lightify-dev

.PHONY: demo test fast lint bench clean
.DEFAULT_GOAL := test

$(STAMP): pyproject.toml setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)
	mkdir -p demo
	cp fixtures/$(DEMO)/input.py demo/train.py
	$(BIN)/lightify convert demo/train.py --force
	$(BIN)/lightify verify demo/train.py demo/train_lit.py

test: $(STAMP)
	$(PYTEST)

fast: $(STAMP)
	$(PYTEST) -m 'not slow and not lightning and not distributed and not packaging'

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python benchmarks/convert_time.py
	$(BIN)/python benchmarks/step_overhead.py
	$(BIN)/python benchmarks/kills.py
	$(BIN)/python benchmarks/memory.py

clean:
	rm -rf build dist lightify.egg-info demo .pytest_cache .mypy_cache .ruff_cache .hypothesis

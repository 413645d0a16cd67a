# All commands work on a fresh machine with Python 3.11 or newer. They create and use .venv/.
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

.PHONY: demo docs test test-full lint format clean

demo: .venv/installed  ## Trains three methods on scikit-learn digits and writes a report.
	$(BIN)/python -m experiments.compare --config=configs/digits.py \
	    --methods=scratch,kd,annealing_kd --seeds=5 --workdir=$(DEMO)

docs: .venv/installed-dev  ## Builds the site of the documentation in runs/docs, and checks its links.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

test: lint  ## Checks style and types, and runs the tests.
	$(BIN)/python -m pytest

test-full: lint  ## Also runs the slow tests, with all of XLA's optimisations. About 20 minutes.
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -m "slow or not slow"

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv $(DEMO)

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	@# Without its dependencies, since it asks for an older Orbax than it needs.
	$(BIN)/python -m pip install --quiet --no-deps "jax2onnx>=0.17"
	touch $@

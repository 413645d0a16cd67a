# Everything on a fresh machine with Python 3.11 or newer, in an environment of its own.
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

.PHONY: demo test lint format clean

demo: .venv/installed  ## Distils on real digits by three methods and writes a report.
	$(BIN)/python -m experiments.compare --config=configs/digits.py \
	    --methods=scratch,kd,annealing_kd --seeds=5 --workdir=$(DEMO)

test: lint  ## Lints, checks types, runs the tests.
	$(BIN)/python -m pytest

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
	touch $@

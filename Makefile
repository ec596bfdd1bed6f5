# `make run` and `make test` do all the set-up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint type bench

run: $(VENV)/ready
	$(BIN)/online-debias demo

test: $(VENV)/ready
	$(BIN)/python -m pytest

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(VENV)/ready
	$(BIN)/mypy

bench: $(VENV)/ready
	$(BIN)/python benchmarks/detectors.py
	$(BIN)/python benchmarks/step_cost.py
	$(BIN)/python benchmarks/quality.py --name demo --methods plain two-step online online-minimal -- --epochs 8
	$(BIN)/python benchmarks/quality.py --name demo_lr16 -- --epochs 8 --lr 0.016
	$(BIN)/python benchmarks/render.py

$(VENV)/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,loops,pyod]' --constraint constraints.txt
	touch $@

# `make run` and `make test` do all the set-up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test browser lint type bench

run: $(VENV)/ready
	$(BIN)/online-debias demo

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile

browser: $(VENV)/ready
	$(BIN)/python -m pytest -m browser tests/test_browser.py

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(VENV)/ready
	$(BIN)/mypy

bench: $(VENV)/ready
	$(BIN)/python benchmarks/speed/detectors.py
	$(BIN)/python benchmarks/speed/step_cost.py
	$(BIN)/python benchmarks/speed/scale.py
	$(BIN)/python benchmarks/speed/loading.py
	$(BIN)/python benchmarks/speed/ranks.py
	$(BIN)/python benchmarks/speed/memory.py
	$(BIN)/python benchmarks/speed/startup.py
	$(BIN)/online-debias compare --config benchmarks/quality/demo_compare.yaml
	cp runs/demo_compare/results.csv benchmarks/results/demo_compare.csv
	cp runs/demo_compare/plots/BiasedDigits-0.98-cost.png docs/demo_compare_cost.png
	$(BIN)/python benchmarks/render.py

$(VENV)/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,compiled,ddb,hf,loops,pyod]' --constraint constraints.txt
	touch $@

# One entry for every habit. Each makes its own environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint bench clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[examples,test,dev]'
	touch $(READY)

demo: $(READY)  ## one real model in three forms: what each really sustains
	$(BIN)/python examples/demo.py

test: $(READY)  ## every test
	$(BIN)/python -m pytest

lint: $(READY)  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## against torch.utils.ThroughputBenchmark; wants an idle machine
	$(BIN)/python benchmarks/run.py --markdown docs/benchmarks.md

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# One entry for every habit. Each makes its own environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
# each worker is given one test after another, in the order of tests/conftest.py
TESTS := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder
READY := .venv/.ready

.PHONY: demo test test-fast lint docs bench scaling accuracy clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[examples,test,docs,dev]'
	touch $(READY)

demo: $(READY)  ## one real model in three forms: what each really sustains
	$(BIN)/python examples/demo.py

test: $(READY)  ## every test
	$(TESTS)

test-fast: $(READY)  ## what takes no time: tests/unit without those that are slow or start processes
	$(TESTS) -q tests/unit -m "not slow and not multiprocess and not native"

lint: $(READY)  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)  ## the site, in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

bench: $(READY)  ## against torch.utils.ThroughputBenchmark and LoadGen; wants an idle machine
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/run.py --markdown docs/benchmarks.md

scaling: $(READY)  ## one process against several; wants an idle machine
	$(BIN)/python benchmarks/processes.py --markdown docs/scaling.md

accuracy: $(READY)  ## known answers against measured ones, models in every form; an idle machine
	$(BIN)/python benchmarks/accuracy.py --markdown docs/accuracy.md
	$(BIN)/python benchmarks/forms.py --markdown docs/models.md

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# One entry for every habit. Each makes its own environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint docs strict tsan bench scaling accuracy clean

CPP := $(wildcard src/inferload/callers/native/*.h src/inferload/callers/native/*.cpp tests/*.cpp tests/native/*.cpp)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[examples,test,docs,dev]'
	touch $(READY)

demo: $(READY)  ## one real model in three forms: what each really sustains
	$(BIN)/python examples/demo.py

test: $(READY)  ## every test
	$(BIN)/python -m pytest

lint: $(READY)  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CPP)
	$(BIN)/mypy
	$(BIN)/lint-imports

strict: $(READY)  ## the native callers compiled with every warning as an error
	$(BIN)/python tests/native/strict_build.py

tsan: $(READY)  ## the native callers under the thread sanitizer; needs g++ or clang++ with it
	$(BIN)/python tests/native/races.py

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

# One entry for every habit. Each makes its own environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
# for two cores: a third of their time tests wait
WORKERS ?= 3
# each worker is given one test after another, in the order of tests/conftest.py
TESTS = $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder $(ARGS)
FAST := tests/unit -m "not slow and not multiprocess and not native"
READY := .venv/.ready
# where this forbids it, each of hundreds of processes would compile all of the package
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help fix check demo test test-fast busy wheel-test lint docs hooks strict tsan bench scaling accuracy clean

help:  ## what can be made
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

CPP := $(wildcard src/inferload/callers/native/*.h src/inferload/callers/native/*.cpp tests/support/*.h tests/support/*.cpp tests/native/*.cpp)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[examples,test,servers,docs,dev]'
	touch $(READY)

fix: $(READY)  ## mend what can be mended without thought: style and format
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

check: lint docs strict wheel-test test  ## all that must pass before a change lands, as CI does

demo: $(READY)  ## one real model in three forms: what each really sustains
	$(BIN)/python examples/demo.py

test: $(READY)  ## every test, or those that ARGS names
	$(TESTS)

test-fast: $(READY)  ## tests/unit without what is slow or starts callers elsewhere
	$(TESTS) -q $(FAST)

busy: $(READY)  ## the same beside a load of twice the cores
	$(BIN)/python tests/support/busy.py $(TESTS)

# The archives' own environment has nothing but the wheel; what that needs is read from .venv, whose
# editable install a path file does not follow.
wheel-test: $(READY)  ## the built wheel, installed: its own tests and the fast ones
	rm -rf dist .wheel
	$(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/python -m venv --without-pip .wheel
	$(BIN)/python -m pip --python .wheel/bin/python install --quiet --no-deps --no-index dist/*.whl
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$(.wheel/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/rest.pth"
	env -u PYTHONPATH .wheel/bin/python -m pytest tests/wheel/installed.py
	env -u PYTHONPATH .wheel/bin/python -m pytest -q -n $(WORKERS) $(FAST)

lint: $(READY)  ## style, types, layers, the workflow and the citation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CPP)
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

hooks: $(READY)  ## mend and check at each commit
	$(BIN)/pre-commit install

strict: $(READY)  ## the native callers compiled with every warning as an error
	$(BIN)/python tests/native/strict_build.py

tsan: $(READY)  ## the native callers under the thread sanitizer of g++ or clang++
	$(BIN)/python tests/native/races.py

docs: $(READY)  ## the site, in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

bench: $(READY)  ## against ThroughputBenchmark and LoadGen, on an idle machine
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/run.py --markdown docs/benchmarks.md

scaling: $(READY)  ## one process against several; wants an idle machine
	$(BIN)/python benchmarks/processes.py --markdown docs/scaling.md

accuracy: $(READY)  ## known answers, models in every form, on an idle machine
	$(BIN)/python benchmarks/accuracy.py --markdown docs/accuracy.md
	$(BIN)/python benchmarks/forecast_checks.py --markdown docs/accuracy.md
	$(BIN)/python benchmarks/forms.py --markdown docs/models.md

clean:  ## take away all that was made here
	rm -rf .venv .wheel dist docs/_build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# One entry for every habit. Each makes its own environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help fix check demo test wheel-test lint docs hooks bench scaling accuracy clean

help:  ## what can be made
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[examples,test,docs,dev]'
	touch $(READY)

fix: $(READY)  ## mend what can be mended without thought: style and format
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

check: lint docs wheel-test test  ## all that must pass before a change lands, as CI does

demo: $(READY)  ## one real model in three forms: what each really sustains
	$(BIN)/python examples/demo.py

test: $(READY)  ## every test
	$(BIN)/python -m pytest

# The archives' own environment has nothing but the wheel; what that needs is read from .venv, whose
# editable install a path file does not follow.
wheel-test: $(READY)  ## what is shipped: tests of the built wheel, installed
	rm -rf dist .wheel
	$(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/python -m venv --without-pip .wheel
	$(BIN)/python -m pip --python .wheel/bin/python install --quiet --no-deps --no-index dist/*.whl
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$(.wheel/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/rest.pth"
	env -u PYTHONPATH .wheel/bin/python -m pytest tests/wheel/installed.py

lint: $(READY)  ## style, types, layers, the workflow and the citation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

hooks: $(READY)  ## mend and check at each commit
	$(BIN)/pre-commit install

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

clean:  ## take away all that was made
	rm -rf .venv .wheel dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

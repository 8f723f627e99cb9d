# `make demo` and `make test` are each whole in themselves on a machine with Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A file's tests share what is made for them, so they stay together; in the order of names, as the default puts the files
# of few tests last, which are the long ones. Half as many processes again as there are cores, since many tests wait.
PARALLEL = -n $(shell $(BIN)/python -c 'import os; print(3 * os.cpu_count() // 2)') --dist loadfile --no-loadscope-reorder

# Tests start hundreds of processes, none of which has to compile everything anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test check coverage format clean

help:  ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "birdemb needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --editable '.[torch]' --constraint constraints.txt
	touch $@

$(VENV)/all.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --editable '.[all]' --constraint constraints.txt
	touch $@

demo: $(VENV)/demo.installed  ## Install what the demonstration needs, and run it
	$(BIN)/birdemb demo

test: $(VENV)/all.installed  ## Install everything, and run every check and the whole test suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(PARALLEL)

check: $(VENV)/all.installed  ## The quick part of `make test`
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(PARALLEL) -m 'not slow' -q

coverage: $(VENV)/all.installed  ## Tell which lines the quick part does not reach
	$(BIN)/pytest $(PARALLEL) -m 'not slow' -q --cov --cov-report=term-missing:skip-covered

format: $(VENV)/all.installed  ## Bring the code into form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove what the other targets made
	rm -rf $(VENV) build dist *.egg-info birdemb-demo .birdemb .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache

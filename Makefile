# Every target sets up what it needs; nothing is installed outside this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup run test lint format bench clean

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make the virtual environment with everything in it

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[sweep,serve,dev]'
	@touch $@

run: $(READY) ## Train, evaluate, export and report on the digits (ARGS="model=dense …" for another run)
	$(BIN)/python -m launch $(ARGS)

test: $(READY) ## Run the test suite (ARGS="-k word" for a part of it)
	$(BIN)/python -m pytest $(ARGS)

lint: $(READY) ## Check style, types and the walls between the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## Put the code in the house's form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## Measure what the README claims, both sides in one run (ARGS="training" for one of them)
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove the environment, the caches, and what runs have written here
	rm -rf $(VENV) runs datasets build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Every target sets up what it needs; nothing is installed outside this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup run test test-clusters lint format bench chaos clean clean-runs

help: ## Show these targets
	@echo "Begin with make run. The first time it installs about 4 GB into .venv, which takes some minutes; then it trains"
	@echo "on 1,797 handwritten digits for about a minute."
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make the virtual environment with everything in it

$(READY): setup.cfg pyproject.toml constraints.txt
	@echo "Installing TensorFlow, Spark and the tools into $(VENV): about 4 GB, some minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[sweep,serve,dev]'
	@$(BIN)/python -m launch --prepare-java || true
	@touch $@

run: $(READY) ## Train, evaluate, export and report on the digits (ARGS="model=dense …" for another run)
	$(BIN)/python -m launch $(ARGS)

test: $(READY) ## Run the test suite and name its ten slowest (ARGS="-k word" for a part of it)
	$(BIN)/python -m pytest --durations=10 $(ARGS)

test-clusters: $(READY) ## Run the tests on real clusters that the tests start themselves (ARGS="-k word" for a part of them)
	$(BIN)/python -m pytest tests/clusters --clusters -n 0 --durations=10 $(ARGS)

lint: $(READY) ## Check style, types and the import-layer rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## Measure what the README claims, both sides in one run (ARGS="training" for one of them)
	$(BIN)/python -m benchmarks $(ARGS)

chaos: $(READY) ## Disturb trainings at random moments and compare their weights (ARGS="--runs 16" for fewer)
	$(BIN)/python -m benchmarks.chaos $(ARGS)

clean: ## Remove the environment, the caches and what was built; trained models and prepared data stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . \( -path ./runs -o -path ./datasets -o -path ./.git \) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

clean-runs: ## Remove runs/ and datasets/, every trained model among them; asks first
	@du -sh runs datasets 2>/dev/null || true
	@printf "Remove runs/ and datasets/ with every trained model? [y/N] "; read -r answer || true; \
	if [ "$$answer" = y ]; then rm -rf runs datasets; else echo "Nothing was removed."; fi

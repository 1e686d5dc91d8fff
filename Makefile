# What to type: `make quickstart` trains a first model, `make test` runs the tests.
# CONTRIBUTING.md explains the rest.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

# Real Korean data and checkpoints; tests that need them skip where they are absent.
KFT_TEST_DATA ?= ../shared
export KFT_TEST_DATA

.PHONY: quickstart test test-all check docs site bench evidence faults clean
.DEFAULT_GOAL := test

# All targets share one environment, and each uses every core it gets: one after another,
# also under `make -j`.
.NOTPARALLEL:

quickstart: .venv/ready-run
	rm -rf runs/quickstart
	$(BIN)/kft finetune recipes/quickstart.yaml

test: .venv/ready-test
	$(BIN)/python -m pytest -n auto --dist worksteal

test-all: .venv/ready-test
	$(BIN)/python -m pytest -m "not gpu and not network"

check: .venv/ready-dev
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python dev/docs.py --check
	$(BIN)/python -m dev.pages --check
	$(BIN)/python -m dev.figures.write --check

docs: .venv/ready-run
	$(BIN)/python dev/docs.py
	$(BIN)/python -m dev.pages
	$(BIN)/python -m dev.figures.write

# Into site/; open site/index.html, or serve the folder to have its search as well.
site: .venv/ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: .venv/ready-bench
	$(BIN)/python benchmarks/peers.py

evidence: .venv/ready-run
	$(BIN)/python benchmarks/accumulation.py
	$(BIN)/python benchmarks/merging.py
	$(BIN)/python benchmarks/nsmc.py
	$(BIN)/python benchmarks/checkpoints.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/concepts.py
	$(BIN)/python benchmarks/ranks.py
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/bert_tasks.py $(KFT_TEST_DATA)/data
	$(BIN)/python benchmarks/rows.py --nsmc $(KFT_TEST_DATA)/data/nsmc/ratings_train.txt

# Kills, damage, full disks (as root), wrong input, a soak; half an hour and more.
faults: .venv/ready-test
	$(BIN)/python benchmarks/faults.py

# Neither the environment nor the runs: those may have cost hours.
clean:
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find kft tests dev benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and by its exact version: nothing after it then chooses another one.
.venv/ready-run: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) torch
	$(INSTALL) -e .
	touch $@

.venv/ready-bench: .venv/ready-run
	$(INSTALL) --quiet -e '.[bench]'
	touch $@

.venv/ready-test: .venv/ready-run
	$(INSTALL) --quiet -e '.[test]'
	touch $@

.venv/ready-docs: .venv/ready-run
	$(INSTALL) --quiet -e '.[docs]'
	touch $@

.venv/ready-dev: .venv/ready-test
	$(INSTALL) --quiet -e '.[dev]'
	touch $@

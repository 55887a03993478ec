# The tasks of this project; `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
STUDY ?= outputs/demo

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-cluster lint types board report bench clean

help:  ## list the tasks
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

setup: $(READY)  ## make .venv with everything in it (about 6 GB, most of it torch)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("prunelab needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)  ## ten networks trained, pruned and compared on built-in data, in minutes on a CPU
	$(BIN)/python -m train -m experiment=demo

test: $(READY)  ## the fast tests, on all cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

test-slow: $(READY)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

test-cluster: $(READY)  ## the tests in a real Slurm of one node, which they start; they skip where it is not installed
	$(BIN)/python -m pytest -m 'cluster and not slow' -rs

lint: $(READY)  ## look for mistakes and misplaced blanks
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench

types: $(READY)  ## check the types
	$(BIN)/mypy

board: $(READY)  ## TensorBoard over outputs/, on this machine alone
	$(BIN)/python -m tensorboard.main --logdir outputs --host localhost

report: $(READY)  ## table and figures of one study again: make report STUDY=outputs/demo
	$(BIN)/python -m prunelab report $(STUDY)

bench: $(READY)  ## training speed beside a plain loop and a DataLoader, measured side by side
	$(BIN)/python bench/throughput.py

clean:  ## remove what tools left behind; outputs/ and .venv stay
	rm -rf dist .pytest_cache .ruff_cache .mypy_cache
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

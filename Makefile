# Development tasks; `make` lists them.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
STUDY = outputs/demo
NAME = exercise
SCALE = smoke
# A job, a sweep with its report, a search, surgery, files for other programs.
LOWEST := tests/job/test_run.py::test_a_job_leaves_checkpoint_event_file_and_a_whole_result \
	tests/sweep/test_study.py::test_a_sweep_ends_with_a_table_and_figures_and_is_not_run_twice \
	tests/sweep/search/test_sweeper.py::test_optuna_records_the_objectives_of_the_results \
	tests/oneshot/test_prune.py tests/export/test_export.py

.DEFAULT_GOAL := help
.PHONY: help setup demo studies study test test-slow test-cluster test-lowest lint types docs board report bench clean

help:  ## list the tasks
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

setup: $(READY)  ## create .venv with all dependencies (about 6 GB, most of it torch)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("prunelab needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)  ## train, prune and compare ten networks on built-in data, in minutes on a CPU
	$(BIN)/python -m train -m experiment=demo

studies: $(READY)  ## list the studies, what each asks, and how far it is
	$(BIN)/python -m prunelab studies

study: $(READY)  ## run a study: make study NAME=exercise SCALE=cpu ARGS='data=image_folder data.root=DIR'
	$(BIN)/python -m train -m experiment=$(NAME) scale=$(SCALE) $(ARGS)

test: $(READY)  ## run the fast tests on all cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

test-slow: $(READY)  ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow

test-cluster: $(READY)  ## run the Slurm tests on a single-node cluster that they start; skipped if Slurm is not installed
	$(BIN)/python -m pytest -m 'cluster and not slow' -rs

test-lowest:  ## run a few tests with the lowest versions that pyproject.toml allows, in .venv-lowest (about 6 GB)
	$(PYTHON) -m venv .venv-lowest
	grep -oE '"[a-z][a-z0-9-]*>=[0-9.]+' pyproject.toml | sed 's/"//; s/>=/==/' > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --disable-pip-version-check --constraint .venv-lowest/lowest.txt \
		--editable '.[export,search]' pytest pytest-timeout
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -W default $(LOWEST)

lint: $(READY)  ## check style and formatting
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench

types: $(READY)  ## check types
	$(BIN)/mypy

docs: $(READY)  ## build the documentation as a site in dist/site; fails at a link to no page or heading
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

board: $(READY)  ## start TensorBoard for outputs/ on localhost
	$(BIN)/python -m tensorboard.main --logdir outputs --host localhost

report: $(READY)  ## rewrite the table and figures of a study: make report STUDY=outputs/demo
	$(BIN)/python -m prunelab report $(STUDY)

bench: $(READY)  ## measure speed in about an hour: steps, threads, surgery, scaling; docs/performance.md has the rest
	for part in throughput threads surgery scaling; do $(BIN)/python bench/$$part.py || exit; done

clean:  ## remove caches and build files; keeps outputs/ and .venv
	rm -rf dist .venv-lowest .pytest_cache .ruff_cache .mypy_cache
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

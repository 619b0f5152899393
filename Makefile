# Everything below needs only make and a python3 >= 3.11 with venv (uv is used when it is there).
# PYTHON=… chooses the interpreter; PYTEST_ARGS=… is handed to pytest; TEST_JOBS=… is how many tests run at once, each of
# these with servers of its own.

SHELL := /bin/bash
PYTHON ?= $(shell scripts/find-python)
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := apply bootstrap cli daemon postgres runtime
PYTEST_ARGS ?=
# Most of a test is waiting for servers.
TEST_JOBS ?= $(shell echo $$(( $$(nproc) + 1 )))
# A fault test has a workload of its own, and several processes that are killed and started again.
FAULT_JOBS ?= $(shell nproc)
# Tests start thousands of processes: each would compile the program anew.
export PYTHONDONTWRITEBYTECODE :=
PYTEST = $(BIN)/python -m pytest --numprocesses $(TEST_JOBS) $(PYTEST_ARGS)

.PHONY: install dev demo test lint bench faults soak docs clean help

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .stamps/install ## leave .venv/bin/pgcopydb

.stamps/install: pyproject.toml constraints.txt constraints-runtime.txt scripts/install
	scripts/install "$(PYTHON)" $(VENV) runtime $(PACKAGES)
	@mkdir -p .stamps && touch $@

dev: .stamps/dev

.stamps/dev: .stamps/install
	scripts/install "$(PYTHON)" $(VENV) dev $(PACKAGES)
	@mkdir -p .stamps && touch $@

demo: dev ## a complete online migration between two embedded servers of different majors
	$(BIN)/python -m demo.run

test: dev ## unit, property and integration tests on real servers
	scripts/install-servers
	$(PYTEST) --dist loadfile tests/unit tests/property tests/integration
	$(PYTEST) --numprocesses $(FAULT_JOBS) --dist load --maxschedchunk=1 tests/faults -m "not slow"

faults: dev ## the whole fault suite: every failpoint, cut connections, full disks
	scripts/install-servers
	$(PYTEST) --numprocesses $(FAULT_JOBS) --dist load --maxschedchunk=1 tests/faults

soak: dev ## a migration under load for an hour (PGCOPYDB_SOAK_SECONDS): memory, open files and disk stay bounded
	scripts/install-servers
	$(BIN)/python -m pytest tests/soak -s $(PYTEST_ARGS)

lint: dev build/tree ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=build/tree $(BIN)/mypy $(foreach p,$(PACKAGES),-p pgcopydb.$(p))
	MYPYPATH=build/tree:. $(BIN)/mypy demo benchmarks docs/generate.py tests
	PYTHONPATH=build/tree $(BIN)/lint-imports

# The packages stand at the top of the repository; mypy and import-linter see them under their import name here.
build/tree: Makefile
	@mkdir -p $@/pgcopydb
	@for p in $(PACKAGES); do ln -sfn ../../../$$p $@/pgcopydb/$$p; done
	@touch $@

bench: dev ## side-by-side measurements against other tools
	scripts/install-servers
	$(BIN)/python -m benchmarks.run

docs: dev ## rebuild the generated parts of the manual
	$(BIN)/python -m docs.generate

clean: ## remove the virtual environment and what was built
	rm -rf $(VENV) .stamps build *.egg-info

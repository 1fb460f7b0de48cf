# What one does with this project. `make help` lists it.
#
# Everything runs in .venv, which uv builds from uv.lock; a machine without uv gets one in
# .venv-tools. `make test PYTHON=3.13` uses another interpreter, in a .venv of its own.

SHELL := /bin/bash
.DEFAULT_GOAL := help

UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo .venv-tools/bin/uv)
VENV := .venv$(if $(PYTHON),-$(subst /,_,$(PYTHON)))
BIN := $(VENV)/bin
export UV_PROJECT_ENVIRONMENT := $(VENV)

# Distributions build their Python with optimisations that one compiled by hand mostly lacks: with
# them everything is a quarter faster. So theirs is used where it is new enough and whole, else
# whichever uv finds.
PROBE := import ctypes, sqlite3, ssl, sys; sys.version_info >= (3, 11) and print(sys.executable)
export UV_PYTHON := $(or $(PYTHON),$(shell /usr/bin/python3 -c '$(PROBE)' 2>/dev/null))
ifeq ($(UV_PYTHON),)
unexport UV_PYTHON
endif

# Servers are started by the dozen: let Python keep what it has compiled.
unexport PYTHONDONTWRITEBYTECODE

# The tests wait for servers a third of their time: one worker more than there are cores.
WORKERS := $(shell cores=$$(nproc); echo $$((cores < 4 ? cores + 1 : 4)))

# Debian packages whose programs some tests run.
TEST_PACKAGES := rsync gcc libc6-dev systemd

.PHONY: help
help: ## list these targets
	@sed -nE 's/^([a-z]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 10

.PHONY: venv
venv: $(VENV)/.synced ## build the environment that all others use

.PHONY: demo
demo: $(VENV)/.synced ## three servers: one dies, calls come in, it returns (ARGS=--json)
	@$(BIN)/vmledger demo $(ARGS)

.PHONY: test
test: packages check ## all checks and all tests (ARGS="-k name" for some, PYTHON=3.13 or a path)
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder $(ARGS)

.PHONY: check
check: $(VENV)/.synced ## format, lint, types, import floors, spelling, lock file
	$(UV) lock --check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

.PHONY: fix
fix: $(VENV)/.synced ## format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench
bench: $(VENV)/.synced ## all benchmarks, or ONLY=append; figures in benchmarks/results.json
	$(BIN)/python -m benchmarks $(ONLY) $(ARGS)

.PHONY: sim
sim: $(VENV)/.synced ## whole clusters on a virtual network with seeded faults (SEED=42)
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: mutants
mutants: $(VENV)/.synced ## does the simulation find deliberate faults? (an hour; ARGS="--only custody")
	$(BIN)/python -m tests.simulation.mutants $(ARGS)

.PHONY: chaos
chaos: packages $(VENV)/.synced ## real servers, killed and cut off under load (MINUTES=10 SEED=42)
	$(BIN)/python -m tests.chaos $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: model
model: $(VENV)/.synced ## every moment that two servers can reach, within bounds (minutes)
	$(BIN)/python -m tests.model

.PHONY: fuzz
fuzz: $(VENV)/.synced ## fuzz all that reads bytes from outside, 10 minutes each (TARGET=wire MINUTES=1)
	@UV_PROJECT_ENVIRONMENT=.venv-fuzz $(UV) sync --locked --all-extras --group fuzz --quiet
	.venv-fuzz/bin/python -m tests.fuzz $(TARGET) --minutes $(or $(MINUTES),10)

.PHONY: docs
docs: $(VENV)/.synced ## write the generated pages again
	$(BIN)/python -m vmledger.reference

.PHONY: clean
clean: ## remove everything that was built
	rm -rf .venv .venv-* dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf .import_linter_cache .fuzz benchmarks/results.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: packages
packages:
	@scripts/install_debian_packages $(TEST_PACKAGES)

.venv-tools/bin/uv:
	@scripts/install_uv .venv-tools

$(VENV)/.synced: pyproject.toml uv.lock | $(filter .venv-tools/%,$(UV))
	@$(UV) sync --locked --all-extras --compile-bytecode >&2
	@touch $@

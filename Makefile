# Everything a newcomer needs, each command from a fresh clone: `make run`, `make test`, `make demo`.
# `make help` lists them. PYTHON=/path/to/python3.12 picks an interpreter; ARGS="..." is passed on.

SHELL := /bin/sh
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install run demo test lint bench campaign clean

help: ## list the commands
	@sed -n 's/^\([a-z]*\):.*## /  make \1 \t/p' $(MAKEFILE_LIST) | expand -t 20

install: .venv/.installed ## make .venv with keepwatch in it

# Stamps: pip is asked again only after pyproject.toml changed. The package itself is installed editable.
.venv/.installed: pyproject.toml
	@deploy/venv.sh .venv
	@echo "installing keepwatch into .venv (a minute the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -e .
	@touch $@

.venv/.installed-test: .venv/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -e '.[test]'
	@touch $@

.venv/.installed-lint: .venv/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -e '.[lint]'
	@touch $@

# exec: the daemon itself, not a shell in between, gets Ctrl-C and its own exit code back to make.
run: install ## the daemon in the foreground, on the embedded default, state in ./.keepwatch
	@exec $(BIN)/keepwatch run --state-dir .keepwatch $(ARGS)

demo: install ## a small invoice office with faults that come and go, watched and backed up, state in ./.demo
	@exec $(BIN)/python deploy/demo/office.py --directory .demo $(ARGS)

test: .venv/.installed-test ## all tests; installs what they need first
	@tests/install_tools.sh
	@exec $(BIN)/python -m pytest -m "not campaign" --numprocesses auto --maxprocesses 4 $(ARGS)

lint: .venv/.installed-lint ## ruff and mypy, both strict
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: .venv/.installed-test ## the engine against restic (BENCH=quick|standard|full), scrapes, monitoring under load, then the idle daemon over MINUTES
	@tests/install_tools.sh
	@engine=0; $(BIN)/python -m tests.benchmarks.engine --size $(or $(BENCH),standard) $(ARGS) || engine=$$?; \
	scrape=0; $(BIN)/python -m tests.benchmarks.scrape || scrape=$$?; \
	load=0; $(BIN)/python -m tests.benchmarks.monitoring || load=$$?; \
	databases=0; $(BIN)/python -m tests.benchmarks.databases || databases=$$?; \
	$(BIN)/python tests/benchmarks/idle.py --minutes $(or $(MINUTES),10) && exit $$((engine | scrape | load | databases))

campaign: .venv/.installed-test ## the long-running tests, which `make test` leaves out
	@tests/install_tools.sh
	@exec $(BIN)/python -m pytest -m campaign --timeout 1800 $(ARGS)

clean: ## remove .venv and caches; ./.keepwatch holds a repository and its password, and stays
	rm -rf .venv .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# Everything a person types; each command does its own set-up. Needs Python 3.11+ and make, nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
export DAGSTER_HOME ?= $(CURDIR)/.dagster
export DO_NOT_TRACK := 1
export PYTHONPATH := $(CURDIR)
# Each of many processes would compile Dagster anew where a machine forbids to keep what was compiled.
export PYTHONDONTWRITEBYTECODE :=

$(READY): requirements.lock $(wildcard sluice/native/*.[ch])
	@echo "Setting up .venv (once; about a minute) ..."
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/python -m sluice.native.build
	@touch $(READY)

.PHONY: setup demo test dev dbt try trace bench soak check format lock clean help

setup: $(READY)  ## install what is needed into .venv
	@mkdir -p "$$DAGSTER_HOME"
	@[[ ! deploy/dagster.yaml -nt "$$DAGSTER_HOME/dagster.yaml" ]] || cp deploy/dagster.yaml "$$DAGSTER_HOME"

demo: setup  ## the main job: a shop's events from a real Kafka to trusted gold tables, then what came of it
	@$(BIN)/python -m demo.run

test: setup  ## all tests, those against a real Kafka among them
	@$(BIN)/python -m demo.jars || echo "no Kafka can be fetched: tests that need one are skipped"
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

dev: setup  ## Dagster's UI on the lake, sensors on; starts the demo's Kafka if none is named
	@$(BIN)/python -m demo.kafka run -- $(BIN)/dagster dev -h 127.0.0.1 -p $(or $(PORT),3000)

dbt: setup  ## dbt alone: build and test gold from the lake, run unit tests, write the docs
	@cd dbt_project && ../$(BIN)/dbt build --profiles-dir . && ../$(BIN)/dbt docs generate --static --profiles-dir .

try: setup  ## try a contract on samples: make try STREAM=orders FILE=samples.jsonl
	@$(BIN)/python -m resources.try_contract $(STREAM) $(FILE)

trace: setup  ## where is a record? make trace STREAM=orders KEY=o-1 (or AT=partition:offset)
	@$(BIN)/python -m assets.trace $(STREAM) $(if $(KEY),--key '$(KEY)') $(if $(AT),--at '$(AT)')

bench: setup  ## the benchmarks beside Spark, into docs/benchmarks.md; make bench SMALL=1 for minutes instead of an hour
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r benchmarks/requirements.lock \
		|| echo "Spark cannot be fetched: without it"
	@$(BIN)/python benchmarks/all.py $(if $(SMALL),--small=yes,--write=yes)

soak: setup  ## everything is killed at random while numbered records flow (SOAK_KILLS, SOAK_MINUTES, SOAK_STORE=file or s3)
	@$(BIN)/python -m tests.crash.soak

check: setup  ## lint, types, imports, definitions
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/dagster definitions validate -w workspace.yaml

format: setup  ## write the code as the linter wants it
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

lock: setup  ## resolve the dependencies anew into requirements.lock, with hashes
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--group demo --group native --group dev pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--group pyproject.toml:bench -o benchmarks/requirements.lock

clean:  ## remove the lake, the demo's Kafka and Dagster's home; .venv stays
	@rm -rf .lake .kafka .dagster dbt_project/target dbt_project/logs

help:  ## list these commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-8s %s\n", $$1, $$2}'

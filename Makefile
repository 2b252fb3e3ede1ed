# The commands of this repository. `make test` and `make demo` are the two that a newcomer needs; CONTRIBUTING.md explains the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
LAUNCH := $(PYTHON) tests/cluster/launch.py
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests and benchmarks have a cluster of their own and must never find somebody's production.
unexport KUBECONFIG

.PHONY: help demo test lint bench fuzz cluster-demo format pins clean

help:
	@echo 'make demo          a minute without a cluster: what SmtpProbe shows, on embedded mail servers'
	@echo "make test          all tiers (TIERS='unit smtp' names some); needs the packages of tests/cluster/packages.txt"
	@echo 'make cluster-demo  a shell inside a real two-node cluster with the chart installed'
	@echo 'make lint          linters, strict types, import contracts'
	@echo 'make bench         speed, each figure beside its peer in the same run'
	@echo 'make fuzz          fuzz targets for SECONDS_EACH=60'

$(BIN)/.demo: pyproject.toml constraints/constraints.txt
	@echo '… installing into .venv (about half a minute, once)' >&2
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q -U -c constraints/constraints.txt pip hatchling editables
	@$(BIN)/python -m pip install -q -c constraints/constraints.txt --no-build-isolation -e '.[operator]' aiosmtpd
	@touch $@

$(BIN)/.dev: $(BIN)/.demo
	@$(BIN)/python -m pip install -q -c constraints/constraints.txt --group dev
	@touch $@

demo: $(BIN)/.demo
	@$(BIN)/python -m demo

test: $(BIN)/.dev
	@test ! -e operator/__init__.py || { echo "operator/__init__.py exists: it shadows the standard library's operator module. Remove it." >&2; exit 1; }
	@$(BIN)/python tools/tiers.py $(TIERS)

lint: $(BIN)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/yamllint -s crds examples charts/smtpprobe-operator/values.yaml charts/smtpprobe-operator/Chart.yaml
	$(BIN)/python tools/sync_crds.py --check
	$(BIN)/python tools/dashboard.py --check
	$(BIN)/python tools/chart_readme.py --check

format: $(BIN)/.dev
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format -q .

bench: $(BIN)/.dev
	@$(BIN)/python -m bench

fuzz: $(BIN)/.dev
	@$(BIN)/python -m fuzz --seconds $(or $(SECONDS_EACH),60) $(TARGETS)

cluster-demo: $(BIN)/.dev
	@$(LAUNCH) --nodes 2 --mail --prometheus -- $(BIN)/python tests/cluster/demo_shell.py

# Take the newest versions that pyproject.toml allows and write them down.
pins:
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install -q -U pip hatchling editables aiosmtpd
	$(BIN)/python -m pip install -q -U --no-build-isolation -e '.[operator]' --group dev
	{ echo '# Every version that the project installs, for pip -c. Renew with: make pins'; $(BIN)/python -m pip freeze --all --exclude-editable; } > constraints/constraints.txt

clean:
	rm -rf .venv build dist

# make up      install what is needed and trade on the paper exchange; Ctrl-C stops it cleanly
# make test    install what the tests need and run them all
# make kind-up start a kind cluster with the operator and a bot; make e2e tests it all there
#
# A fresh machine needs Python 3.11 or newer, make and git. Everything goes into .venv; a second run installs nothing.

PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3.14 python3; do \
	command -v $$each >/dev/null && $$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$each && break; done)
VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes
PROJECT := $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
EXTRAS := --extra signing --extra monitor --extra local --extra tracing --extra optimizer --extra backtest --extra search
IMAGE_EXTRAS := --extra signing --extra monitor --extra tracing --extra operator --extra optimizer
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
ARGS ?=
TESTS ?= tests

# What make image, kind-up and e2e work with; each may come from the environment.
TRADINGBOT_IMAGE ?= tradingbot:dev
REDIS_IMAGE ?= redis:7.0-bookworm
CLUSTER := $(or $(KIND_CLUSTER_NAME),kind)
NAMESPACE ?= tradingbot
KIND := TRADINGBOT_IMAGE="$(TRADINGBOT_IMAGE)" REDIS_IMAGE="$(REDIS_IMAGE)" KIND_CLUSTER_NAME="$(CLUSTER)" \
	NAMESPACE="$(NAMESPACE)"
E2E := E2E_IMAGE="$(TRADINGBOT_IMAGE)" E2E_REDIS_IMAGE="$(REDIS_IMAGE)" E2E_NODE_IMAGE="$(KIND_NODE_IMAGE)" \
	KIND_CLUSTER_NAME="$(CLUSTER)"
BUILD := docker build $(if $(TRADINGBOT_BASE_IMAGE),--build-arg BASE=$(TRADINGBOT_BASE_IMAGE)) --tag $(TRADINGBOT_IMAGE) .
CHART := charts/tradingbot-operator

.PHONY: up test install lint types contracts format lock schemas image kind-up kind-down e2e clean help
.DEFAULT_GOAL := help

help: ## Show what can be made
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

up: $(VENV)/.runtime ## Install what is needed and trade on the paper exchange (ARGS="--speed 30 --cycles 10")
	@$(BIN)/tradingbot up $(ARGS)

test: $(VENV)/.dev ## Install what the tests need and run them all (TESTS=tests/bus for a part)
	@$(BIN)/python -m pytest -q -n 2 --dist loadgroup $(TESTS) $(ARGS)

install: $(VENV)/.dev ## Install everything for development

lint: $(VENV)/.dev ## Style, formatting and the rules of this project
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tradingbot.replay.invariants.seam
	@if command -v helm >/dev/null; then helm lint --strict --quiet $(CHART); \
	else echo "no helm here: the chart was not linted"; fi

types: $(VENV)/.dev ## Strict types
	$(BIN)/mypy

contracts: $(VENV)/.dev ## Which part may import which
	$(BIN)/lint-imports

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

schemas: $(VENV)/.dev ## Write from the code: docs/schemas, docs/settings.md, .env.example, crds, the chart's README
	$(BIN)/python -m tradingbot.local.generated
	$(BIN)/python -m tradingbot_operator.crd
	$(BIN)/python charts/readme.py

lock: $(VENV)/.uv ## Resolve all dependencies anew into requirements/*.lock
	$(COMPILE) pyproject.toml $(EXTRAS) -o requirements/runtime.lock
	$(COMPILE) pyproject.toml $(IMAGE_EXTRAS) --no-emit-package scipy -c requirements/runtime.lock -o requirements/image.lock
	$(COMPILE) --group build -o requirements/build.lock
	$(COMPILE) pyproject.toml $(EXTRAS) --extra operator --group test --group lint --group build -c requirements/runtime.lock -o requirements/dev.lock

image: ## Build the image; load it where a kind cluster runs
	$(BUILD)
	@if command -v kind >/dev/null && kind get clusters 2>/dev/null | grep -qx "$(CLUSTER)"; then \
		kind load docker-image --name "$(CLUSTER)" $(TRADINGBOT_IMAGE); fi

kind-up: ## A kind cluster if there is none (KIND_NODE_IMAGE), the operator in it, and a bot on paper
	@$(KIND) charts/kind-up

kind-down: ## Delete the kind cluster that KIND_CLUSTER_NAME names
	kind delete cluster --name "$(CLUSTER)"

e2e: $(VENV)/.dev ## Test it all on a kind cluster; makes one if there is none
	$(BUILD)
	@$(E2E) $(BIN)/python -m pytest -q e2e $(ARGS)

clean: ## Remove the environment and caches; data folders stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.uv: requirements/bootstrap.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: https://www.python.org/downloads/"; exit 1; }
	@test -x $(BIN)/python || { echo "Making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); } \
	|| { rm -rf $(VENV); echo "$(PYTHON) cannot make environments; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
	@touch $@

$(VENV)/.runtime: $(VENV)/.uv requirements/runtime.lock requirements/build.lock pyproject.toml
	@echo "Installing what trading needs (once)"
	@$(LOCKED) -r requirements/runtime.lock -r requirements/build.lock
	@$(PROJECT)
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.lock
	@echo "Installing what development needs (once)"
	@$(LOCKED) -r requirements/dev.lock
	@$(PROJECT)
	@touch $@

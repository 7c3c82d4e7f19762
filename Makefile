# The two commands a newcomer needs: `make run` and `make test`. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

.PHONY: run test torture lint clean help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.installed  ## set up, then run everything: make run ARGS="--duration 40s"
	@exec $(BIN)/scheduler up $(ARGS)

test: $(VENV)/.installed-dev  ## set up, then run the whole test suite: make test ARGS="-k planner"
	@$(BIN)/python -m pytest -n 3 --dist loadgroup $(ARGS)

torture: $(VENV)/.installed-dev  ## break everything at random and judge it: make torture ARGS="--minutes 10 --seed 1"
	@$(BIN)/python -m tests.torture $(ARGS)

lint: $(VENV)/.installed-dev  ## style, types, and the deploy files
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	@$(BIN)/hadolint Dockerfile && $(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml

clean:  ## remove the virtual environment and the data folder
	rm -rf $(VENV) var

# The project itself goes in without isolation, so that its build backend is the one the lock names by hash.
$(VENV)/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked dependencies into $(VENV) (once, about half a minute) …"
	@$(PIP) -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo "Installing what the tests need into $(VENV) …"
	@$(PIP) -r requirements-dev.lock
	@touch $@

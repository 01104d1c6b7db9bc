PYTHON ?= python3
BIN := .venv/bin

.PHONY: install test unit demo bench faults soak lint format lock clean

install: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: lint
	$(BIN)/python -m pytest -m "not campaign"

unit: install
	$(BIN)/python -m pytest tests/unit

demo: install
	$(BIN)/truestock demo

bench: install
	$(BIN)/python -m load_tests

faults: install
	$(BIN)/python -m pytest -m campaign tests/faults

# The model against the ledger, step by step, for a quarter of an hour.
soak: install
	$(BIN)/python -m pytest --hypothesis-profile=soak tests/flow/test_state_machine.py

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The lock names versions and hashes only, so that it works with whichever index a machine uses.
lock:
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
	  --extra embedded --group dev -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
	  --group build -o requirements-service.lock pyproject.toml

clean:
	rm -rf .venv data dist build

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.built
WORKERS := --numprocesses auto --maxprocesses 4 --dist worksteal

.PHONY: venv demo test fast types slow lint clean

venv: $(STAMP)

# Built anew when what it depends on is newer than the stamp.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,report]'
	@touch $(STAMP)

demo: venv
	$(BIN)/fastslow demo --to demo

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv
	$(BIN)/mypy

fast: venv
	$(BIN)/python -m pytest $(WORKERS) --durations 12

# The types beside the tests: either alone leaves a core idle for a while.
test: lint
	$(MAKE) --no-print-directory --jobs 2 types fast

# What `make test` leaves out, and every test that starts processes again, now with fresh ones.
slow: venv
	FASTSLOW_COLD_STARTS=1 $(BIN)/python -m pytest $(WORKERS) -m "slow or processes" --durations 12

clean:
	rm -rf $(VENV) demo build dist *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache

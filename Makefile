# One line per target; `make help` lists them. ARGS="..." is passed on to the command behind each target.
# PYTHON=python3 runs everything with an interpreter that has the packages already, and installs nothing.
PYTHON ?= .venv/bin/python
BASE_PYTHON ?= python3
SUITE ?= quick
TABLES := $(wildcard tables/*.parquet)
READY := $(if $(filter .venv/bin/python,$(PYTHON)),.venv/installed)

.DEFAULT_GOAL := help
.PHONY: help setup bench predict list doctor report compare sweep validate accuracy compile evidence tune test benchmark check older compile-gate accuracy-gate lint fmt clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'
setup: .venv/installed ## create .venv and install the pinned dependencies
bench: $(READY) ## measure this machine: GPU=h100 SUITE=smoke|quick|standard|full|kernels|calibration OUT=dir
	@$(PYTHON) -m bench run $(if $(GPU),--gpu $(GPU)) --suite $(SUITE) $(if $(OUT),--out $(OUT)) $(ARGS)
predict: $(READY) ## the napkin, no GPU needed: ARGS="model llama-3-70b --gpu h100 --gpus 2"
	@$(PYTHON) -m predict $(ARGS)
list: $(READY) ## what a suite would run on this machine, in which order, and about how long: SUITE=quick
	@$(PYTHON) -m bench list $(if $(GPU),--gpu $(GPU)) --suite $(SUITE) $(ARGS)
doctor: $(READY) ## what this machine is, and what would spoil a measurement
	@$(PYTHON) -m bench doctor $(if $(GPU),--gpu $(GPU)) $(ARGS)
report: $(READY) ## render a run again from its records: RUN=dir
	@$(PYTHON) -m reports render $(RUN) $(ARGS)
compare: $(READY) ## two runs side by side on % of roof: A=dir B=dir
	@$(PYTHON) -m reports compare $(A) $(B) $(ARGS)
sweep: $(READY) ## every batch and context of a model as parquet and plots: ARGS="--model llama-3-8b --gpu h100 --out runs/sweep"
	@$(PYTHON) -m reports sweep $(ARGS)
validate: $(READY) ## expected time against measured tables, held to its bars: DATA="a.parquet b.parquet" GPU=h100
	@$(PYTHON) -m reports validate $(DATA) $(if $(GPU),--gpu $(GPU)) $(if $(OUT),--out $(OUT)) --gate $(ARGS)
accuracy: $(READY) ## docs/accuracy.md again from measured tables: DATA="a.parquet b.parquet"
	@$(PYTHON) -m reports accuracy $(DATA) $(if $(OUT),--out $(OUT)) $(ARGS)
compile: $(READY) ## compile every Triton kernel for sm80, sm90, sm100, sm120; no GPU needed: ARGS="--every --json"
	@$(PYTHON) -m kernels compile $(ARGS)
evidence: $(READY) ## on a GPU in under 9 minutes: smoke tests, doctor, standard suite, report, then longer tests: OUT=dir
	@$(PYTHON) -m bench evidence $(if $(GPU),--gpu $(GPU)) --out $(OUT) $(ARGS)
tune: $(READY) ## on a GPU: every configuration of a Triton kernel on its shapes, fastest first: OP=matmul GPU=h200 OUT=dir
	@$(PYTHON) -m bench tune --op $(OP) $(if $(GPU),--gpu $(GPU)) $(if $(OUT),--out $(OUT)) $(ARGS)
test: $(READY) ## run the tests; those that need a GPU are skipped and counted where there is none
	@$(PYTHON) -m pytest $(ARGS)
benchmark: $(READY) ## time the host side: predicting, loading, rendering, launching
	@$(PYTHON) -m pytest --benchmark-enable --benchmark-only $(ARGS)
check: lint test compile-gate accuracy-gate ## what CI runs: lint, types, tests, every kernel compiled as docs/kernels.md says, expected time against tables/*.parquet if there
older: .venv-older/installed ## tests and compile gate with the oldest torch and Triton that are supported; CI runs it at night
	@.venv-older/bin/python -m pytest $(ARGS) && .venv-older/bin/python -m kernels compile --check-docs docs/kernels.md
compile-gate: $(READY)
	@$(PYTHON) -m kernels compile --check-docs docs/kernels.md
accuracy-gate: $(READY)
	@$(if $(TABLES),$(PYTHON) -m reports validate $(TABLES) --gate,echo "no measured tables in tables/: expected time was not validated against any")
lint: $(READY) ## lint and types; changes nothing
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy
fmt: $(READY) ## rewrite the files as the linter wants them
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

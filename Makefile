# Two commands from nothing: `make demo` and `make test`. Both make .venv first; it is made again when the lock changes.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.stamp
BENCH_STAMP := .venv-bench/.stamp
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

# Each command starts several processes: without compiled modules each would spend seconds on compiling them again.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.PHONY: demo test up bench bench-batches bench-sweeps bench-rows bench-renewals simulate chaos lock clean

demo: $(STAMP)
	@$(BIN)/bursar demo

test: $(STAMP)
	@BIN=$(BIN) scripts/check.sh

up: $(STAMP)
	@$(BIN)/bursar up

# Beside its peers, which have an environment of their own. For example BENCH="--events 2000 --rounds 1".
bench: $(STAMP) $(BENCH_STAMP)
	@$(BIN)/python -m bench.side_by_side $(BENCH)

# Bursar alone: batches beside a transaction per message.
bench-batches: $(STAMP)
	@$(BIN)/python -m bench.throughput $(BENCH)

# For example BENCH="--large 100000 --rounds 3".
bench-sweeps: $(STAMP)
	@$(BIN)/python -m bench.sweeps $(BENCH)

# What an event costs among many users; for example BENCH="--large 10000000".
bench-rows: $(STAMP)
	@$(BIN)/python -m bench.growth $(BENCH)

bench-renewals: $(STAMP)
	@$(BIN)/python -m bench.credit_renewals $(BENCH)

# SEEDS=300 make simulate: that many runs of the service with simulated faults.
simulate: $(STAMP)
	@$(BIN)/bursar simulate --seeds $(or $(SEEDS),100)

# For example CHAOS="--events 2000 --users 100 --seconds 60 --seed 7".
chaos: $(STAMP)
	@$(BIN)/python -m bursar.service.chaos $(CHAOS)

# UPGRADE=1 takes the newest versions that pyproject.toml allows.
lock: $(STAMP)
	$(COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml --output-file requirements.lock
	$(COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml --group dev --constraints requirements.lock \
		--output-file requirements-dev.lock
	$(COMPILE) $(if $(UPGRADE),--upgrade) bench/requirements.in --constraints requirements.lock \
		--output-file bench/requirements.lock

clean:
	rm -rf .venv .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(STAMP): requirements-dev.lock scripts/bootstrap.sh
	@PYTHON="$(PYTHON)" scripts/bootstrap.sh
	@touch $@

$(BENCH_STAMP): bench/requirements.lock $(STAMP)
	@echo "Installing the peers into .venv-bench"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-bench
	@$(BIN)/uv pip install --quiet --python .venv-bench/bin/python --require-hashes --no-deps --only-binary :all: \
		-r bench/requirements.lock
	@touch $@

#!/bin/sh
# Format, lint, types, import contracts, tests: stops at the first that fails, and says how long each took.
set -eu
cd "$(dirname "$0")/.."
BIN=${BIN:-.venv/bin}

check() {
    started=$(date +%s)
    echo "== $*"
    program=$1
    shift
    "$BIN/$program" "$@" || {
        echo "== failed: $program" >&2
        exit 1
    }
    echo "== took $(($(date +%s) - started)) s"
}

check ruff format --check
check ruff check
check mypy
check lint-imports
# A file stays with one process, for what its tests share. Each process starts servers of its own: at most four.
# One more than processors, as tests wait a third of their time: 8 minutes instead of 11. TEST_PROCESSES says otherwise.
check pytest -m "not planted" -n "${TEST_PROCESSES:-$(($(getconf _NPROCESSORS_ONLN) + 1))}" --maxprocesses 4 \
    --dist loadfile --no-loadscope-reorder

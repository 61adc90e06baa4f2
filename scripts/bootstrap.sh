#!/bin/sh
# Makes .venv from requirements-dev.lock, from nothing but Python >= 3.11. Run by make when the lock changed.
set -eu
cd "$(dirname "$0")/.."
venv=.venv

fail() {
    echo "bursar: $1" >&2
    exit 1
}

find_python() {
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or later is needed; install it, or name it: make PYTHON=/path/to/python"
}

# A Debian Python may come without ensurepip: `python3 -m venv` then leaves a folder without pip.
make_venv() {
    if "$1" -c 'import ensurepip' 2>/dev/null; then
        "$1" -m venv --clear "$venv"
        return
    fi
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "Python $version has no ensurepip; install python$version-venv (Debian: apt-get install python$version-venv)"
    fi
    echo "Installing python$version-venv with apt-get"
    apt-get update -qq </dev/null || true # an unreachable third-party source does not matter here
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "python$version-venv" \
        </dev/null >/dev/null || fail "apt-get could not install python$version-venv"
    "$1" -m venv --clear "$venv"
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "Making $venv with $("$python" --version)"
    make_venv "$python"
fi
echo "Installing the locked packages into $venv"
pip() {
    "$venv/bin/python" -m pip "$@" --quiet --quiet --no-compile --disable-pip-version-check --no-input
}
# uv installs in seconds what takes an older pip most of a minute. It does not read pip's settings (an index of one's
# own, a folder of wheels), so where it fails pip does it all. The stanza of uv in the lock carries its hashes.
# Wheels only: no compiler is needed, and no package runs code of its own while it is installed.
locked="--require-hashes --no-deps --only-binary :all:"
uv_lock=$(mktemp)
trap 'rm -f "$uv_lock"' EXIT
sed -n '/^uv==/,/[^\\]$/p' requirements-dev.lock >"$uv_lock"
# shellcheck disable=SC2086 # one option a word
if ! { pip install $locked -r "$uv_lock" &&
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" $locked -r requirements-dev.lock 2>/dev/null; }; then
    echo "Installing with pip instead"
    pip install $locked -r requirements-dev.lock
fi
pip install --no-deps --no-build-isolation --editable .

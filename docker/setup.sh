#!/usr/bin/env bash
# Makes a virtual environment with exactly what docker/requirements-cpu.lock names, and seal_ray itself.
# usage: docker/setup.sh FOLDER            TORCH_INDEX=URL: where PyTorch's CPU wheels are, if pip does not find them
set -euo pipefail
venv=$1
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3.11}
lock=$here/docker/requirements-cpu.lock

stop() { printf 'set-up stopped: %s\n' "$*" >&2; exit 3; }

[ "$(uname -sm)" = "Linux x86_64" ] || stop "this lock file is for Linux on x86-64, not $(uname -sm)"
command -v "$python" >/dev/null || stop "$python is not there; install Python 3.11, or name one with PYTHON="
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || stop "$python is not Python 3.11, which the lock file is for"
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -f "$headers/Python.h" ] || stop "no Python headers in $headers; install them (Debian: python3.11-dev)"
command -v g++ >/dev/null || stop "no C++ compiler; install one (Debian: g++)"

"$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip --disable-pip-version-check)
torch_index=()
[ -z "${TORCH_INDEX:-}" ] || torch_index=(--extra-index-url "$TORCH_INDEX")

echo "installing $(grep -c == "$lock") packages into $venv (about two minutes)"
# setuptools first: some packages are built from source, and their build must not fetch a second torch
grep -E '^setuptools==' "$lock" >"$venv/build.lock"
"${pip[@]}" install --quiet --no-deps --require-hashes -r "$venv/build.lock"
if ! "${pip[@]}" install --quiet --no-deps --no-build-isolation --require-hashes "${torch_index[@]}" \
    -r "$lock" >"$venv/install.log" 2>&1; then
    tail -n 15 "$venv/install.log" >&2
    if grep -q 'No matching distribution found for torch==' "$venv/install.log"; then
        stop "pip found no CPU build of torch; set TORCH_INDEX to the URL of PyTorch's CPU wheel index and try again"
    fi
    stop "the installation failed; the whole log is in $venv/install.log"
fi
"${pip[@]}" install --quiet --no-deps --no-build-isolation -e "$here"

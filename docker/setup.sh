#!/usr/bin/env bash
# Makes a virtual environment with exactly what the CPU lock files name, and seal_ray itself.
# usage: docker/setup.sh FOLDER            TORCH_INDEX=URL: where PyTorch's CPU wheels are, if pip does not find them
set -euo pipefail
venv=$1
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3.11}
build=$here/docker/requirements-build.lock
locks=("$here/docker/requirements-cpu.lock" "$here/docker/requirements-dev.lock")

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

echo "installing $(cat "${locks[@]}" | wc -l) packages into $venv (about two minutes)"
# build tools first: some packages are built from source, and their build must not fetch a second torch
"${pip[@]}" install --quiet --no-deps --require-hashes -r "$build"
if ! "${pip[@]}" install --no-deps --no-build-isolation --require-hashes "${torch_index[@]}" \
    -r "${locks[0]}" -r "${locks[1]}" >"$venv/install.log" 2>&1; then
    tail -n 15 "$venv/install.log" >&2
    if grep -q 'No matching distribution found for torch==' "$venv/install.log"; then
        stop "pip found no CPU build of torch; set TORCH_INDEX to the URL of PyTorch's CPU wheel index and try again"
    fi
    stop "the installation failed; the whole log is in $venv/install.log"
fi
"${pip[@]}" install --quiet --no-deps --no-build-isolation -e "$here"

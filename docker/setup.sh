#!/usr/bin/env bash
# Makes a virtual environment with exactly what the CPU lock files name, and seal_ray itself. Repeated, it does nothing.
# usage: docker/setup.sh FOLDER            TORCH_INDEX=URL: where PyTorch's CPU wheels are, if pip does not find them
# uv fetches what the ordinary index has; torch's CPU build comes through pip, which knows this machine's other sources.
set -euo pipefail
venv=$1
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3.11}
build=$here/docker/requirements-build.lock
locks=("$here/docker/requirements-cpu.lock" "$here/docker/requirements-dev.lock")
log=$venv/install.log

stop() { printf 'set-up stopped: %s\n' "$*" >&2; exit 3; }

wanted=$(cat "$build" "${locks[@]}" "$here/pyproject.toml" "$0" <(echo "$here") | sha256sum)
if [ "$(cat "$venv/.installed" 2>/dev/null)" = "$wanted" ]; then
    echo "$venv already holds what the lock files name"
    exit 0
fi

[ "$(uname -sm)" = "Linux x86_64" ] || stop "this lock file is for Linux on x86-64, not $(uname -sm)"
command -v "$python" >/dev/null || stop "$python is not there; install Python 3.11, or name one with PYTHON="
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || stop "$python is not Python 3.11, which the lock file is for"
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -f "$headers/Python.h" ] || stop "no Python headers in $headers; install them (Debian: python3.11-dev)"
command -v g++ >/dev/null || stop "no C++ compiler; install one (Debian: g++)"
"$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null || stop "no libnuma.so.1, which vLLM's kernels for CPUs load; install it (Debian: libnuma1)"

"$python" -m venv "$venv"
rm -f "$venv/.installed"
pip=("$venv/bin/python" -m pip --disable-pip-version-check)
exact=(--no-deps --no-build-isolation --require-hashes)
torch_index=()
[ -z "${TORCH_INDEX:-}" ] || torch_index=(--extra-index-url "$TORCH_INDEX")

failed() {
    tail -n 15 "$log" >&2
    if grep -q 'No matching distribution found for torch==' "$log"; then
        stop "pip found no CPU build of torch; set TORCH_INDEX to the URL of PyTorch's CPU wheel index and try again"
    fi
    stop "the installation failed; the whole log is in $log"
}

uv() {
    # a mirror that pip is configured for serves uv as well
    local index=${PIP_INDEX_URL:-$("${pip[@]}" config get global.index-url 2>/dev/null || true)}
    env ${index:+UV_DEFAULT_INDEX="$index"} "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" "${exact[@]}" "$@"
}

echo "installing $(cat "${locks[@]}" | wc -l) packages into $venv (one to two minutes)"
: >"$log"
# build tools first: some packages are built from source, and their build must not fetch a second torch
"${pip[@]}" install --quiet --no-deps --require-hashes -r "$build" >>"$log" 2>&1 || failed
"${pip[@]}" install --quiet "${exact[@]}" -r <(grep -h '^uv==' "${locks[@]}") >>"$log" 2>&1 || failed
"${pip[@]}" install --no-compile "${exact[@]}" "${torch_index[@]}" -r <(grep -h '^torch==' "${locks[@]}") >"$log.torch" 2>&1 &
torch=$!
# deepspeed is built from source and looks at torch, so it waits for it
uv -r <(grep -Ehv '^(torch|deepspeed)==' "${locks[@]}") >>"$log" 2>&1 || echo "uv could not; pip goes on" >>"$log"
wait "$torch" || { cat "$log.torch" >>"$log"; failed; }
# what is there costs pip nothing; where uv found no index, pip installs everything
"${pip[@]}" install --no-compile "${exact[@]}" "${torch_index[@]}" -r "${locks[0]}" -r "${locks[1]}" >>"$log" 2>&1 || failed
"${pip[@]}" install --quiet --no-deps --no-build-isolation -e "$here" >>"$log" 2>&1 || failed
# compiled once here, by all cores, and not by every process of the first run; files for other Pythons may fail
"$venv/bin/python" -m compileall -q -j 0 -x '/(tests?|testing)/' "$venv/lib" >/dev/null 2>&1 || true
rm -f "$log.torch"
echo "$wanted" >"$venv/.installed"

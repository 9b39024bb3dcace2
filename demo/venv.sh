#!/bin/sh
# A virtual environment in .venv from a lock file: venv.sh LOCK STAMP. Nothing but what the lock's hashes allow gets in.
set -eu
lock=$1
stamp=$2
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "Python 3.11 or newer is needed and '$python' is not: install python3 (Debian 12 has 3.11), or make PYTHON=/path/to/python3" >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    sh demo/packages.sh no-ensurepip=python3-venv
fi
# What an interrupted run left half made is made anew.
.venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv
log=.venv/install.log
echo "Installing $(grep -c '==' "$lock") Python packages from $lock (a minute or two the first time) …"
# pip installs uv, and uv the rest in a tenth of the time; where only pip knows the way (a mirror in its own settings), pip.
all_of_it() {
    sed -n '/^uv==/,/[^\\]$/p' "$lock" >.venv/uv.lock
    .venv/bin/python -m pip install --disable-pip-version-check --require-hashes -r .venv/uv.lock >"$log" 2>&1 &&
        .venv/bin/uv pip install --python .venv/bin/python --require-hashes -r "$lock" >>"$log" 2>&1 ||
        .venv/bin/python -m pip install --disable-pip-version-check --no-compile --require-hashes -r "$lock" >>"$log" 2>&1
}
if ! all_of_it ||
    ! .venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e . >>"$log" 2>&1; then
    grep -E 'ERROR|error:' "$log" >&2 || tail -n 15 "$log" >&2
    echo "could not install $lock: the whole output is in $log" >&2
    exit 1
fi
touch "$stamp"

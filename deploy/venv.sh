#!/bin/sh
# Make a virtual environment from the newest Python >= 3.11 that works here: deploy/venv.sh DIRECTORY
# PYTHON=... picks one. Debian keeps ensurepip in a package of its own: root gets it installed, others are told its name.
set -eu

venv=${1:?usage: deploy/venv.sh DIRECTORY}

# Prints "3.12" when $1 runs and is new enough. Running it matters: pyenv leaves shims on PATH that only complain.
version_of() {
    "$1" -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1); print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

can_make_venv() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

# Sets python (new enough, with ensurepip) or at least without_pip (new enough, lacking it).
find_python() {
    python='' without_pip=''
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 /usr/bin/python3}; do
        version=$(version_of "$candidate") || continue
        if can_make_venv "$candidate"; then
            python=$candidate
            return 0
        fi
        without_pip=${without_pip:-$candidate}
    done
    return 1
}

if [ -x "$venv/bin/python" ] && version_of "$venv/bin/python" >/dev/null && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi

if ! find_python; then
    if [ -n "${PYTHON:-}" ] && [ -z "$without_pip" ]; then
        echo "cannot make $venv: PYTHON=$PYTHON is not Python 3.11 or newer" >&2
        exit 1
    fi
    if [ -n "$without_pip" ]; then
        package=python$(version_of "$without_pip")-venv
        problem="$without_pip lacks ensurepip"
    else
        package='python3 python3-venv'
        problem='no Python 3.11 or newer on PATH'
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "cannot make $venv: $problem" >&2
        echo "hint: install Python 3.11 or newer with its venv module, or name one: make install PYTHON=/path/to/python3" >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "cannot make $venv: $problem" >&2
        echo "hint: sudo apt-get install $package" >&2
        exit 1
    fi
    echo "$problem: installing $package"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null
    # shellcheck disable=SC2086  # two package names
    apt-get install -qq -y --no-install-recommends $package </dev/null >/dev/null
    if ! find_python; then
        echo "cannot make $venv: this release's $package is older than Python 3.11" >&2
        echo "hint: use Debian 12, Ubuntu 24.04 or newer, or name an interpreter: make install PYTHON=/path/to/python3" >&2
        exit 1
    fi
fi

echo "making $venv with $python ($(version_of "$python"))"
"$python" -m venv --clear "$venv"

#!/bin/sh
# Says which tools the build needs and does not find, and how to get them on Debian or Ubuntu.
# usage: check-tools.sh PYTHON    (the interpreter that the virtual environment is made from)
set -u

python=${1:-}
missing=0

need() { # need WHAT HOW
    printf 'missing: %s\n    %s\n' "$1" "$2" >&2
    missing=1
}

apt() { printf 'apt-get install %s' "$*"; }

if [ -z "$python" ]; then
    need 'Python 3.11 or later' "$(apt python3 python3-dev python3-venv), or name one: make PYTHON=/path/to/python3"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    need "Python 3.11 or later ($python is older, or does not start)" "$(apt python3 python3-dev python3-venv)"
else
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        need "venv for $python" "$(apt python3-venv)"
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
        need "the headers of $python (Python.h)" "$(apt python3-dev)"
fi

command -v cc >/dev/null 2>&1 || need 'a C compiler (cc)' "$(apt build-essential)"
command -v c++ >/dev/null 2>&1 || need 'a C++ compiler (c++)' "$(apt build-essential)"
command -v cmake >/dev/null 2>&1 || need 'cmake' "$(apt cmake)"
command -v pkg-config >/dev/null 2>&1 || need 'pkg-config' "$(apt pkg-config)"

rustup='install Rust with rustup (rustup.rs); the rustc of Debian 12 is too old'
wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
if ! command -v cargo >/dev/null 2>&1 || ! command -v rustc >/dev/null 2>&1; then
    need "Rust $wanted or later (cargo)" "$rustup"
else
    found=$(rustc --version | cut -d ' ' -f 2)
    oldest=$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)
    [ "$oldest" = "$wanted" ] || need "Rust $wanted or later (found $found)" "$rustup"
fi

[ "$missing" = 0 ] || exit 1

#!/usr/bin/env bash
# Makes a virtual environment from a list of packages, again where the list has changed. TransformerLens's take 6 GB and three to six minutes each.
#
#   scripts/venv.sh tests/lens/requirements-4.txt target/lens-4
set -euo pipefail
cd "$(dirname "$0")/.."
list=$1 venv=$2
if ! cmp -s "$list" "$venv/requirements.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$list"
    cp "$list" "$venv/requirements.txt"
fi

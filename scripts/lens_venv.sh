#!/usr/bin/env bash
# Makes the virtual environment target/lens-VERSION for a version of TransformerLens, again where its list has changed. 6 GB, three to six minutes.
#
#   scripts/lens_venv.sh 4
set -euo pipefail
cd "$(dirname "$0")/.."
list=tests/lens/requirements-$1.txt venv=target/lens-$1
if ! cmp -s "$list" "$venv/requirements.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$list"
    cp "$list" "$venv/requirements.txt"
fi

#!/usr/bin/env bash
# What grokscope shares with the PyTorch world, against the real packages: TransformerLens 4 and 3, PyTorch's and Python's generators, the first
# losses of the presets in float64. Each version has a virtual environment of its own; they take 6 GB each, and the whole ten minutes.
#
#   scripts/lens.sh
set -euo pipefail
cd "$(dirname "$0")/.."
for version in 4 3; do
    list=tests/lens/requirements-$version.txt venv=target/lens-$version
    if ! cmp -s "$list" "$venv/requirements.txt"; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$list"
        cp "$list" "$venv/requirements.txt"
    fi
done
GROKSCOPE_LENS=1 exec scripts/test.sh --test suite -- lens

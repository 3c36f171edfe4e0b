#!/usr/bin/env bash
# What grokscope shares with the PyTorch world, against the real packages: TransformerLens 4 and 3, PyTorch's and Python's generators, the first
# losses of the presets in float64. Each version has a virtual environment of its own; they take 6 GB each, and the whole ten minutes.
#
#   scripts/lens.sh
set -euo pipefail
cd "$(dirname "$0")/.."
for version in 4 3; do scripts/venv.sh tests/lens/requirements-$version.txt target/lens-$version; done
scripts/notebook.sh
GROKSCOPE_LENS=1 exec scripts/test.sh --test suite -- lens

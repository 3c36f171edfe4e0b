#!/usr/bin/env bash
# Installs this tree with pip beside TransformerLens, and executes the notebook of examples/ from a copy.
#
#   scripts/notebook.sh [EXECUTED.ipynb]     keeps the executed notebook, pictures and all
set -euo pipefail
executed=${1:+$(realpath "$1")}
cd "$(dirname "$0")/.."
scripts/venv.sh tests/lens/requirements-4.txt target/lens-4
bin=$PWD/target/lens-4/bin
PATH="$bin:$PATH" "$bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --force-reinstall .
"$bin/python" tests/lens/notebook.py ${executed:+"$executed"}

#!/usr/bin/env bash
# Installs this tree with pip beside TransformerLens, and executes the notebook of examples/ from a copy.
#
#   scripts/notebook.sh [EXECUTED.ipynb]     keeps the executed notebook, pictures and all
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/lens_venv.sh 4
target/lens-4/bin/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .
target/lens-4/bin/python tests/lens/notebook.py "$@"

#!/usr/bin/env bash
# Sweeps on schedulers: a real Slurm on the loopback, and the manifest for Kubernetes against the published schema. As root, some five minutes.
#
#   scripts/cluster.sh
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
for command in slurmctld slurmd sbatch munged; do command -v "$command" >/dev/null || packages=(slurmctld slurmd slurm-client munge); done
command -v python3 >/dev/null && python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3 python3-venv)
[ ${#packages[@]} -eq 0 ] || scripts/install.sh "${packages[@]}"
venv=target/cluster-venv
scripts/venv.sh tests/cluster/requirements.txt "$venv"
cargo build --release --locked

"$venv/bin/python" tests/cluster/kubernetes.py target/release/grokscope
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"
$as_root "$venv/bin/python" tests/cluster/slurm.py target/release/grokscope "$place/cluster"

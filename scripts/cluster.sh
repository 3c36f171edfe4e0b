#!/usr/bin/env bash
# Sweeps on schedulers: a real Slurm on the loopback, the manifest for Kubernetes against the published schema, and a real server of S3's
# protocol. As root; some seven minutes, and ten more where things are built and installed.
#
#   scripts/cluster.sh [kubernetes] [store] [slurm]
set -euo pipefail
cd "$(dirname "$0")/.."
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(kubernetes store slurm)

packages=()
for command in slurmctld slurmd sbatch munged; do command -v "$command" >/dev/null || packages=(slurmctld slurmd slurm-client munge); done
command -v python3 >/dev/null && python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3 python3-venv)
[ ${#packages[@]} -eq 0 ] || scripts/install.sh "${packages[@]}"
venv=target/cluster-venv
scripts/venv.sh tests/cluster/requirements.txt "$venv"

# A server of S3's protocol whose buckets are directories, and the program with its client.
server=target/s3s/bin/s3s-fs
if [[ " ${parts[*]} " == *" store "* ]]; then
    "$server" --version 2>/dev/null | grep -qF 0.14.1 || cargo install s3s-fs --version 0.14.1 --features binary --locked --root target/s3s
    cargo build --release --locked --features s3
    cp target/release/grokscope target/s3s/grokscope
fi
cargo build --release --locked

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"
for part in "${parts[@]}"; do
    case "$part" in
        kubernetes) "$venv/bin/python" tests/cluster/kubernetes.py target/release/grokscope ;;
        store) "$venv/bin/python" tests/cluster/store.py target/s3s/grokscope "$server" "$place/store" ;;
        slurm) $as_root "$venv/bin/python" tests/cluster/slurm.py target/release/grokscope "$place/cluster" ;;
        *) echo "$part: expected kubernetes, store or slurm" >&2 && exit 1 ;;
    esac
done

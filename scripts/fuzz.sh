#!/usr/bin/env bash
# Fuzzes every loader of files, guided by coverage: no panic, no abort, no more memory than 64 MiB in one piece and 512 in all.
#
#   scripts/fuzz.sh [RUNS] [TARGET ..]     10,000,000 inputs of each of: safetensors plan config metrics csv
#
# Starts from fuzz/seeds, which the tests replay, and what earlier runs found (fuzz/corpus). Installs cargo-fuzz; needs a C++ compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-10000000}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(safetensors plan config metrics csv)
cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked
# Without a sanitizer, which Rust's stable compiler does not have; unsafe code is far from these loaders.
cargo fuzz build --sanitizer none
for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target"
    cargo fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -runs="$runs" -max_len=4096 -malloc_limit_mb=64 -rss_limit_mb=512 -print_final_stats=1
done

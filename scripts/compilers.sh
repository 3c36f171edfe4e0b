#!/usr/bin/env bash
# Compiles every pipeline with the compilers of GPU drivers, none of which needs a GPU. docs/kernels.md describes each.
#
#   scripts/compilers.sh all                       every judge
#   scripts/compilers.sh --ci                      what CI runs: tint, glslang, spirv-val, radv and pipelines
#   scripts/compilers.sh JUDGE ..                  tint radv pipelines glslang spirv-val dxc fxc ptxas msl
#   scripts/compilers.sh JUDGE .. --only STEM ..   these shaders or entry points: product, product.nn
#   scripts/compilers.sh all --write-docs          writes the table of docs/kernels.md
#   scripts/compilers.sh faults                    injects faults in the shaders and shows which judge reports each
#
# Installs what the judges need: Debian packages, and the rest below target/compilers/. Figures go to target/compilers/results.json.
# Fails if a pipeline is rejected or misses a criterion, and if a judge cannot be installed or run.
set -euo pipefail
cd "$(dirname "$0")/.."
here=target/compilers
export PYTHONDONTWRITEBYTECODE=1
ci=(tint glslang spirv-val radv pipelines)
all=(tint glslang spirv-val radv pipelines msl dxc ptxas fxc)

judges=() options=() faults=""
while [ $# -gt 0 ]; do
    case "$1" in
        --ci) judges=("${ci[@]}") options+=(--ci) ;;
        all) judges=("${all[@]}") ;;
        faults) faults=yes judges=(tint glslang spirv-val radv msl dxc ptxas fxc) ;;
        --write-docs) options+=("$1") ;;
        --only)
            options+=("$@")
            break
            ;;
        *) [[ " ${all[*]} " == *" $1 "* ]] && judges+=("$1") || { echo "unknown judge '$1'. Use one of: ${all[*]}" >&2 && exit 1; } ;;
    esac
    shift
done
[ ${#judges[@]} -gt 0 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2 && exit 1; }

mkdir -p "$here"
missing=()
for judge in "${judges[@]}"; do
    scripts/compilers/install.sh "$judge" || missing+=("$judge")
done

# HLSL and MSL need another build of naga and wgpu, which CI's judges do not use.
features=()
[[ ! " ${judges[*]} " =~ \ (dxc|fxc|ptxas|msl)\  ]] || features=(--features compilers)
cargo build --release --locked "${features[@]}" --example dump_kernels --bin grokscope

present=() options_missing=()
for judge in "${judges[@]}"; do
    [[ " ${missing[*]} " == *" $judge "* ]] || present+=("$judge")
done
[ ${#missing[@]} -eq 0 ] || options_missing=(--missing "${missing[@]}")
[ -z "$faults" ] || exec python3 scripts/compilers/faults.py "${options_missing[@]}"

rm -rf "$here/dump"
target/release/examples/dump_kernels "$here/dump"
exec python3 scripts/compilers/run.py "${present[@]}" "${options_missing[@]}" "${options[@]}"

#!/usr/bin/env bash
# Checks and times grokscope on a GPU of another machine: packed here, run there, reported here.
#
#   scripts/gpu.sh pack [DIR]                   builds, and packs what the run needs; by default into target/gpu
#   scripts/gpu.sh run [OPTIONS]                runs on the machine with the GPU; writes gpu.json and raw.tar.gz
#   scripts/gpu.sh report gpu.json [PAGE]       writes the section of docs/performance.md, or of another page
#   scripts/gpu.sh collect raw.tar.gz [--out DIR]   writes gpu.json again, from the output that a run kept
#
# Options of pack:
#   --program FILE --suite FILE   packs these binaries and builds nothing
# Options of run:
#   --adapter NAME     part of an adapter's name, as `grokscope devices` lists it; by default the first GPU
#   --short            small shapes and few tests: 90 seconds on llvmpipe with two cores, for CI
#   --out DIR          where the results go; by default ./gpu-results
#   --twins FILTER     twin tests whose name contains FILTER; by default all, in the short form a few
#   --deadline SEC     seconds for everything, 30 or more; by default 480
#
# pack needs cargo, git and strip. run needs bash 5, timeout, tar and python3, but no compiler and no network; without python3 it leaves
# raw.tar.gz for `collect`. The peers need PyTorch and JAX. run exits with 0 only if no part failed or was skipped; missing peers are listed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONDONTWRITEBYTECODE=1
# The pack is sent to another machine.
most_mib=60

fail() {
    echo "scripts/gpu.sh: $*" >&2
    exit 1
}

usage() {
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
    exit 1
}

# has_value OPTION [VALUE]: fails unless an option has its value.
has_value() {
    [[ $# -ge 2 && -n "$2" ]] || fail "$1 has no value. Give one: $1 VALUE"
}

# --- pack ---

# strip_to FROM TO: a copy without symbols and debug info.
strip_to() {
    [ -x "$1" ] || fail "no executable at $1. Build it first"
    if command -v strip >/dev/null; then
        strip -o "$2" "$1"
    elif command -v objcopy >/dev/null; then
        objcopy --strip-all "$1" "$2"
    else
        fail "neither strip nor objcopy was found. Install binutils"
    fi
}

# pack_binaries PROGRAM SUITE COMMIT DIR: replaces DIR, once all is there.
pack_binaries() {
    local program=$1 suite=$2 commit=$3 dir=$4 version listed kib
    if [ -e "$dir" ] && [ ! -f "$dir/build.json" ] && [ -n "$(ls -A "$dir")" ]; then
        fail "$dir holds files that are not a pack. Choose another directory, or empty this one"
    fi
    mkdir -p "$(dirname "$dir")"
    new=$(mktemp -d "$(dirname "$dir")/gpu-pack.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    chmod 755 "$new"
    mkdir -p "$new/scripts/gpu" "$new/benches/peers"
    strip_to "$program" "$new/grokscope"
    strip_to "$suite" "$new/suite"
    # The twin tests read no file of the repository: shaders are part of the binary.
    cp "$here/scripts/gpu.sh" "$new/scripts/"
    cp "$here"/scripts/gpu/*.py "$new/scripts/gpu/"
    cp "$here"/benches/peers/*.py "$here/benches/peers/requirements.txt" "$new/benches/peers/"

    version=$("$new/grokscope" --version) || fail "the stripped program does not start: $program"
    listed=$("$new/suite" agree --list 2>&1) || fail "the stripped suite does not start: $suite: $listed"
    [[ "$listed" == *_agree_with_their_twins* ]] || fail "$suite lists no twin tests. Give the binary of tests/suite"
    printf '{"commit": "%s", "packed": "%s", "version": "%s"}\n' \
        "$commit" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$version" >"$new/build.json"

    kib=$(du -sk "$new" | cut -f1)
    if [ "$kib" -gt $((most_mib * 1024)) ]; then
        (cd "$new" && du -ak . | sort -rn | sed -n 2,6p) >&2
        fail "the pack takes $(((kib + 1023) / 1024)) MiB, more than the limit of $most_mib MiB. The list above shows its largest files in KiB"
    fi
    rm -rf "$dir"
    mv "$new" "$dir"
    echo "packed commit $commit into $dir: $(((kib + 1023) / 1024)) MiB of $most_mib MiB at most"
}

pack() {
    local program="" suite="" dir="" commit
    while [ $# -gt 0 ]; do
        case "$1" in
            --program) has_value "$@" && program=$2 && shift ;;
            --suite) has_value "$@" && suite=$2 && shift ;;
            -*) fail "pack: unknown option '$1'. Run scripts/gpu.sh without arguments for the list" ;;
            *)
                [ -z "$dir" ] || fail "pack: one directory at most, got '$dir' and '$1'"
                dir=$1
                ;;
        esac
        shift
    done
    dir=${dir:-$here/target/gpu}
    if [ -n "$program$suite" ]; then
        [[ -n "$program" && -n "$suite" ]] || fail "pack: --program and --suite go together. Give both"
        commit="unknown (binaries given by --program and --suite)"
    else
        local target=${CARGO_TARGET_DIR:-$here/target} manifest=$here/Cargo.toml
        cargo build --release --locked --manifest-path "$manifest"
        program=$target/release/grokscope
        suite=$(cargo test --release --locked --no-run --test suite --manifest-path "$manifest" \
            --message-format=json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | grep '/suite-' | tail -n 1) ||
            fail "cargo test --no-run built no suite binary. Its messages are above"
        commit=$(git -C "$here" --no-optional-locks describe --always --dirty) ||
            fail "git does not say which commit this is. Pack from a git checkout"
    fi
    pack_binaries "$program" "$suite" "$commit" "$dir"
}

# --- run ---

# Both append a tab-separated line: `note` a key and its value, `record` a part's name, exit code, milliseconds, budget in seconds, reason, command.
note() { printf '%s\t%s\n' "$1" "$2" >>"$raw/run.tsv"; }
record() { (IFS=$'\t' && printf '%s\n' "$*") >>"$raw/parts.tsv"; }

# part NAME BUDGET COMMAND ..: runs a command for at most BUDGET seconds, unless too little time is left.
part() {
    local name=$1 budget=$2 left=$((until - SECONDS)) code=0 began
    shift 2
    if [ -n "$blocked" ]; then
        record "$name" skipped 0 "$budget" "$blocked" "${*@Q}"
    elif [ "$left" -lt "$budget" ]; then
        record "$name" skipped 0 "$budget" "$left s were left of $deadline s, and this part may take $budget s" "${*@Q}"
    else
        echo "$name: at most $budget s" >&2
        began=${EPOCHREALTIME/[.,]/}
        timeout -k 5 "$budget" "$@" >"$raw/$name.out" 2>"$raw/$name.err" </dev/null || code=$?
        record "$name" "$code" $(((${EPOCHREALTIME/[.,]/} - began) / 1000)) "$budget" "" "${*@Q}"
    fi
}

# find_adapter WANTED: the full name of the first adapter of devices.out that has WANTED in its name or driver; of the first GPU for "".
find_adapter() {
    local wanted=${1,,} title="" type="" line
    while IFS= read -r line; do
        case "$line" in
            "  type "*) type=${line##* } ;;
            "  driver "*)
                if { [ -n "$wanted" ] && [[ "${title,,} ${line,,}" == *"$wanted"* ]]; } ||
                    { [ -z "$wanted" ] && [[ "$type" =~ ^(Discrete|Integrated|Virtual)Gpu$ ]]; }; then
                    echo "$title"
                    return
                fi
                ;;
            " "*) ;;
            *) title=$line ;;
        esac
    done <"$raw/devices.out"
}

describe_machine() {
    note date "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
    note form "$form"
    note deadline "$deadline"
    note asked "$asked"
    note system "$(uname -srm)"
    note processor "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1)"
    note cores "$(nproc 2>/dev/null || echo 0)"
    if command -v nvidia-smi >/dev/null; then
        note nvidia "$(timeout 10 nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>&1 | head -n 1)"
    fi
    cp "$pack/build.json" "$raw/"
}

# The peers of benches/peers, each a part of its own.
run_peers() {
    local peer budget steps=50
    [ "$form" = full ] || steps=5
    for peer in torch-reference torch-careful jax-careful-scan torch-reference-compiled torch-careful-compiled; do
        budget=40
        [[ "$peer" != *-compiled ]] || budget=75
        if [ "$form" = short ] && [ "$peer" != torch-reference ]; then
            record "peer-$peer" missing 0 "$budget" "left out in the short form" ""
        elif ! command -v python3 >/dev/null; then
            record "peer-$peer" missing 0 "$budget" "no python3" ""
        else
            part "peer-$peer" "$budget" python3 "$here/benches/peers/peers.py" --steps "$steps" --only "$peer"
        fi
    done
}

run() {
    local out=gpu-results twins="" adapter=""
    # Read by the functions above.
    form=full asked="" deadline=480 blocked=""
    while [ $# -gt 0 ]; do
        case "$1" in
            --adapter) has_value "$@" && asked=$2 && shift ;;
            --out) has_value "$@" && out=$2 && shift ;;
            --twins) has_value "$@" && twins=$2 && shift ;;
            --deadline) has_value "$@" && deadline=$2 && shift ;;
            --short) form=short ;;
            *) fail "run: unknown option '$1'. Run scripts/gpu.sh without arguments for the list" ;;
        esac
        shift
    done
    [ "${BASH_VERSINFO[0]}" -ge 5 ] || fail "run needs bash 5, this is $BASH_VERSION"
    command -v timeout >/dev/null || fail "run needs timeout. Install GNU coreutils"
    [[ "$deadline" =~ ^[1-9][0-9]{1,3}$ && "$deadline" -ge 30 ]] || fail "--deadline $deadline: expected 30 to 9999 seconds"
    SECONDS=0
    # The last ten seconds are for collecting.
    until=$((deadline - 10))
    pack=$here
    [ -f "$pack/build.json" ] || pack=$here/target/gpu
    [ -f "$pack/build.json" ] || fail "no pack in $here or $pack. Run scripts/gpu.sh pack first"
    mkdir -p "$out"
    rm -f "$out/gpu.json" "$out/raw.tar.gz"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    raw=$work/raw
    mkdir "$raw"
    # Self-checks and pipelines of earlier runs must not answer for this one.
    export GROKSCOPE_CACHE_DIR=$work/cache NODEVICE_SELECT=1 NO_COLOR=1 XLA_PYTHON_CLIENT_PREALLOCATE=false
    unset GROKSCOPE_NO_ADAPTER GROKSCOPE_SOAK
    describe_machine

    local program=$pack/grokscope suite=$pack/suite
    local preset=(--preset default) seconds=3 filter=agree models=(--preset default --models 64)
    if [ "$form" = short ]; then
        preset=(--preset demo) seconds=0.3 filter=twins_at_p7_d1
        models=(--preset demo --p 11 --d-model 16 --d-mlp 32 --models 4)
    fi
    filter=${twins:-$filter}

    part devices 20 "$program" devices
    [ ! -f "$raw/devices.out" ] || adapter=$(find_adapter "$asked")
    note adapter "$adapter"
    [ -n "$adapter" ] || blocked="no adapter, see 'devices'"
    part check 60 "$program" devices --check "$adapter"
    export GROKSCOPE_TEST_ADAPTER=$adapter
    part adapter 20 "$suite" the_adapter_is_the_one_asked_for --exact --format json
    # The skipped ones are no twins of tests/suite/kernels.rs; some read files of the repository.
    part twins 120 "$suite" "$filter" --format json --skip with_autograd --skip numpy_agrees --skip agree_with_the_cpu_engine
    part bench 100 "$program" bench --device "$adapter" --program both "${preset[@]}" --seconds "$seconds" --json
    part model 90 "$program" bench --model=H200 --program both "${preset[@]}" --json
    part at-once 60 "$program" train --dry-run --at-once auto --device "$adapter" "${models[@]}"
    run_peers
    note seconds "$SECONDS"

    tar -C "$work" -czf "$out/raw.tar.gz" raw || echo "scripts/gpu.sh: could not write $out/raw.tar.gz, the output of all parts" >&2
    command -v python3 >/dev/null ||
        fail "no python3 here, so gpu.json is not written. Run this where there is one: scripts/gpu.sh collect $out/raw.tar.gz"
    python3 "$here/scripts/gpu/collect.py" "$raw" "$out/gpu.json"
}

collect() {
    local archive="" out=gpu-results
    while [ $# -gt 0 ]; do
        case "$1" in
            --out) has_value "$@" && out=$2 && shift ;;
            *) archive=$1 ;;
        esac
        shift
    done
    [ -f "$archive" ] || fail "collect: no file at '$archive'. Give the raw.tar.gz of a run"
    mkdir -p "$out"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    tar -C "$work" -xzf "$archive"
    python3 "$here/scripts/gpu/collect.py" "$work/raw" "$out/gpu.json"
}

[ $# -gt 0 ] || usage
command=$1
shift
case "$command" in
    pack | run | collect) "$command" "$@" ;;
    report) python3 "$here/scripts/gpu/report.py" "$@" ;;
    *) usage ;;
esac

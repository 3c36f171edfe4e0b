#!/usr/bin/env bash
# Builds grokscope for ARM64 Linux and checks it under qemu, and the x86-64 program on a processor without AVX-512. Installs what it needs on
# Debian 12.
#
#   scripts/arm64.sh            all of the following
#   scripts/arm64.sh build      the program and its tests
#   scripts/arm64.sh tests      unit tests, and the suite's tests of twins, files and Ctrl-C
#   scripts/arm64.sh signals    SIGINT, SIGTERM and SIGUSR1: exit code 75, and the same bytes as on x86-64 after --resume
#   scripts/arm64.sh bytes      every program and optimizer for 20 steps at p = 11, the demo from step 300 to 304: x86-64's metrics and weights
#   scripts/arm64.sh kills      50 kills at random moments, then --resume
#   scripts/arm64.sh avx2       the last two for the x86-64 program under qemu-x86_64 -cpu max, which has AVX2 and no AVX-512
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/cross.sh

target=aarch64-unknown-linux-gnu
# Programs for ARM64 find their libraries below -L.
arm64="qemu-aarch64 -L /usr/aarch64-linux-gnu"
avx2="qemu-x86_64 -cpu max"
# Emulators hang now and then. A timeout is around all tests: around each program, it would receive the signal that a test sends to the program.
limit="timeout --kill-after=10 3600"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$limit $arm64"

arm64_cargo() {
    local command=$1
    shift
    GROKSCOPE_RUNNER=$arm64 cross_cargo "$command" --release --locked --target "$target" "$@"
}

part_build() {
    need gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
    compiler
    arm64_std
    arm64_cargo build --bin grokscope
    arm64_cargo test --no-run --lib --test suite
    $limit $arm64 "$build/$target/release/grokscope" --version
}

# Unpacks std for ARM64 beside the compiler's own. Apt gets directories of its own, so that this machine's architectures stay as they are.
arm64_std() {
    local libraries=$cross/rust/usr/lib/rustlib apt=$cross/apt64
    [ ! -d "$libraries/$target" ] || return 0
    rm -rf "$apt"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/std"
    : >"$apt/status"
    cat >"$apt/apt.conf" <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
Dir::State::status "$apt/status";
CONF
    apt-get -qq -c "$apt/apt.conf" update
    (cd "$apt" && apt-get -qq -c apt.conf download libstd-rust-web-dev)
    dpkg-deb -x "$apt"/libstd-rust-web-dev_*_arm64.deb "$apt/std"
    cp -r "$apt/std/usr/lib/rustlib/$target" "$libraries/$target.tmp"
    mv "$libraries/$target.tmp" "$libraries/$target"
    rm -rf "$apt"
}

part_tests() {
    passes arm64_cargo test --lib
    # Left out: tests that inject faults with a preloaded library, which qemu would load itself, and memory_stays_flat, which would measure
    # qemu.
    for name in "${tests[@]}"; do passes arm64_cargo test --test suite -- "$name" --skip memory_stays; done
}
tests=(
    # twins
    twins_in_f64 the_cpu_engine_ slopes_of_the_loss small_gradients golden_method bad_numbers on_the_cpu_engine
    # files
    resumes_to_the_same_bytes damaged_bits history_with_a_gap cannot_be_read resumed_copy own_files bad_files seeds_of_the_fuzzer ordinary_permissions
    # the part `signals` covers other signals
    ctrl_c_ reader_that_goes_away
)

# bytes_of COMMAND NAME PROGRAM
bytes_of() {
    cargo build --release --locked
    read -ra emulated <<<"$1"
    emulated+=("$3")
    same_histories "$2" --preset demo --p 11 --steps 20
    local place=$runs/$2-demo
    rm -rf "$place"
    mkdir -p "$place"
    "$native" train --preset demo --steps 300 --device cpu --quiet --out "$place/at-300" >/dev/null
    local resume=(train --resume "$place/at-300" --steps 304 --device cpu --quiet)
    "$native" "${resume[@]}" --out "$place/native" >/dev/null
    "${emulated[@]}" "${resume[@]}" --out "$place/emulated" >/dev/null
    same_bytes "$place/native" "$place/emulated"
    echo "$2-demo: the same bytes from step 300 to 304"
}

part_bytes() {
    bytes_of "$limit $arm64" arm64 "$build/$target/release/grokscope"
    passes arm64_cargo test --test suite -- one_history
}

part_signals() {
    local signal run started code rows step
    cargo build --release --locked
    for signal in INT TERM USR1; do
        run=$runs/arm64-$signal
        rm -rf "$run" "$run-whole"
        # A shell's background jobs ignore SIGINT unless it has job control.
        set -m
        $arm64 "$build/$target/release/grokscope" train "${stopped[@]}" --steps 100000 --out "$run" >/dev/null 2>&1 &
        started=$!
        set +m
        rows=0
        for _ in $(seq 1000); do
            [ ! -f "$run/metrics.jsonl" ] || rows=$(wc -l <"$run/metrics.jsonl")
            [ "$rows" -lt 3 ] || break
            sleep 0.2
        done
        kill "-$signal" "$started"
        timeout 300 tail --pid="$started" -f /dev/null || kill -KILL "$started"
        code=0
        wait "$started" || code=$?
        [ "$code" = 75 ] || fail "SIG$signal: exit code $code, expected 75"
        step=$(find "$run/checkpoints" -name 'step-*' -printf '%f\n' | sort | tail -1 | sed 's/step-0*//')
        $limit $arm64 "$build/$target/release/grokscope" train --resume "$run" --steps $((step + 10)) --device cpu --quiet >/dev/null
        "$native" train "${stopped[@]}" --steps $((step + 10)) --out "$run-whole" >/dev/null
        same_bytes "$run-whole" "$run"
        echo "SIG$signal: code 75 at step $step, and --resume goes on to x86-64's bytes"
    done
}
stopped=(--preset demo --p 11 --stop-at-test-loss 0 --device cpu --quiet)

part_kills() {
    GROKSCOPE_KILLS=50 GROKSCOPE_KILL_STEPS=60 passes arm64_cargo test --test suite -- survives_kills --nocapture
}

part_avx2() {
    need qemu-user
    bytes_of "$limit $avx2" avx2 "$native"
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$limit $avx2" passes cargo test --release --locked --test suite -- one_history
    GROKSCOPE_RUNNER=$avx2 CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$limit GROKSCOPE_KILLS=50 GROKSCOPE_KILL_STEPS=60 passes cargo test --release --locked --test suite -- survives_kills --nocapture
}

in_parts "build tests bytes signals kills avx2" "$@"

#!/usr/bin/env bash
# Builds grokscope for Windows (x86_64-pc-windows-gnu) and checks it under Wine. Installs what it needs on Debian 12.
#
#   scripts/windows.sh            all of the following
#   scripts/windows.sh build      the program and its tests
#   scripts/windows.sh tests      unit tests, and the suite without what Wine or Windows lacks (listed below)
#   scripts/windows.sh bytes      the demo groks; it and the other programs and optimizers write Linux's metrics and weights
#   scripts/windows.sh kills      50 times TerminateProcess, then --resume
#   scripts/windows.sh ctrl-c     Ctrl-C: exit code 75, and the same bytes after --resume
#   scripts/windows.sh console    what Wine does for Ctrl-Break and the closing of a console
#   scripts/windows.sh devices    what Wine's Vulkan and DX12 offer
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/cross.sh

target=x86_64-pc-windows-gnu
program=target/cross/build/$target/release/grokscope.exe
wine=/usr/lib/wine/wine64
export WINEPREFIX=$cross/prefix WINEDEBUG=-all
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER="timeout --kill-after=10 3600 $wine"
emulated=(timeout --kill-after=10 1800 "$wine" "$program")

# Tests of the suite that are not for Windows, and why:
left_out=(
    # tests of the sources, by cargo
    modules_point fit_for_a_browser unsafe_ nothing_speaks
    # other programs of Linux: Python, Chromium, actionlint, cargo-deny, shells, script, sh, kill
    workflows_ dependencies_ python_module numpy_ page_is_read pages_of polars_ the_page_of_a_sweep lens_ shells_ colours_ slurm
    memory_of_a_loader
    # Unix signals; `ctrl-c` is the check of Windows
    ctrl_c_ a_signal_leaves that_another_process_trains goes_on_where_it_was a_run_that_was_stopped
    # covered by the part `kills`
    survives_kills
    # stores of files: file:// takes no path with a drive
    store task_is_killed
    # /proc, ulimit
    memory_stays bench_tells few_files
)

windows_cargo() {
    local command=$1
    shift
    # Every build includes the crate `test`. Otherwise the unit tests would build std's dependents a second time.
    cross_cargo "$command" --release --locked -Zbuild-std=std,panic_unwind,test --target "$target" "$@"
}

part_build() {
    need gcc-mingw-w64-x86-64-win32 wine64
    compiler
    windows_cargo build --bin grokscope
    windows_cargo test --no-run --lib --test suite
    prefix
    timeout --kill-after=10 300 "$wine" "$program" --version
}

# Creates the Wine prefix, with the library that Wine 8 lacks.
prefix() {
    [ -f "$WINEPREFIX/drive_c/windows/system32/bcryptprimitives.dll" ] && return
    mkdir -p "$WINEPREFIX"
    timeout --kill-after=10 300 "$wine" wineboot --init >/dev/null 2>&1 || true
    x86_64-w64-mingw32-gcc -shared -O1 tests/windows/bcryptprimitives.c -ladvapi32 \
        -o "$WINEPREFIX/drive_c/windows/system32/bcryptprimitives.dll"
}

part_tests() {
    passes windows_cargo test --lib
    local skips=()
    for name in "${left_out[@]}"; do skips+=(--skip "$name"); done
    passes windows_cargo test --test suite -- "${skips[@]}"
}

part_bytes() {
    cargo build --release --locked
    same_run windows-demo --preset demo
    grep -q '"grokked": true' "$runs/windows-demo/emulated/summary.json" || fail "the demo did not grok under Wine"
    for history in "${histories[@]:1}"; do
        read -ra words <<<"$history"
        same_run "windows-${words[0]}" --preset demo --steps 300 "${words[@]:1}"
    done
    passes windows_cargo test --test suite -- one_history
}

part_kills() {
    GROKSCOPE_KILLS=50 passes windows_cargo test --test suite -- survives_kills --nocapture
}

# Starts an X server, which a console and Vulkan need under Wine. Uses a prefix of its own, because a Wine desktop
# that was started without an X server has no Vulkan.
display() {
    need xvfb xauth
    WINEPREFIX=$cross/prefix-x
    Xvfb -displayfd 3 -screen 0 800x600x24 3>"$cross/display" 2>/dev/null &
    server=$!
    trap 'kill $server' EXIT
    for _ in $(seq 100); do
        [ ! -s "$cross/display" ] || break
        sleep 0.1
    done
    DISPLAY=:$(tr -d '\n' <"$cross/display")
    export DISPLAY
    prefix
}

# event NAME RUN: trains until some rows are written, sends a console event, and prints how the program ended. Sets `code` to its exit code.
event() {
    local run=target/cross/runs/$2
    rm -rf "$runs/$2" "$runs/$2.log"
    timeout --kill-after=10 300 "$wine" "$cross/console.exe" "$1" "$run.log" "$run/metrics.jsonl" 3 \
        "$program" train "${stopped[@]}" --out "$run" >/dev/null 2>&1 || code=$?
    cat "$run.log"
}
stopped=(--preset demo --p 13 --steps 4000 --stop-at-test-loss 0 --device cpu --threads 1 --quiet)

console() {
    mkdir -p "$runs"
    x86_64-w64-mingw32-gcc -O1 tests/windows/console.c -o "$cross/console.exe"
    display
}

part_ctrl_c() {
    console
    code=0
    event ctrl-c windows-stopped
    [ "$code" = 75 ] || fail "Ctrl-C: exit code $code, expected 75"
    [ ! -f "$runs/windows-stopped/summary.json" ] || fail "the run was over before Ctrl-C came"
    timeout --kill-after=10 600 "$wine" "$program" train --resume target/cross/runs/windows-stopped --device cpu --quiet >/dev/null
    rm -rf "$runs/windows-whole"
    timeout --kill-after=10 600 "$wine" "$program" train "${stopped[@]}" --out target/cross/runs/windows-whole >/dev/null
    same_bytes "$runs/windows-whole" "$runs/windows-stopped"
    echo "Ctrl-C: code 75, and --resume goes on to the bytes of an undisturbed run"
}

# Reports only: unit tests in src/signals.rs cover what the handler must do on Windows.
part_console() {
    console
    for name in ctrl-break ctrl-break-group close; do
        code=0
        echo "$name under Wine:"
        event "$name" "windows-$name"
    done
}

part_devices() {
    need mesa-vulkan-drivers libvulkan1
    display
    for backend in vulkan dx12; do
        echo "WGPU_BACKEND=$backend:"
        WGPU_BACKEND=$backend timeout --kill-after=10 300 "$wine" "$program" devices | tee "$cross/devices.log"
        grep -q cpu "$cross/devices.log" || fail "devices lists no CPU engine"
    done
    rm -rf "$runs/windows-vulkan" "$runs/windows-dx12"
    WGPU_BACKEND=vulkan timeout --kill-after=10 600 "$wine" "$program" train --preset demo --p 11 --steps 20 --device llvmpipe --quiet \
        --out target/cross/runs/windows-vulkan
    # Wine 8 lists an adapter for DX12 and cannot open it: a report, not a check.
    WGPU_BACKEND=dx12 timeout --kill-after=10 600 "$wine" "$program" train --preset demo --p 11 --steps 20 --device dx12 --quiet \
        --out target/cross/runs/windows-dx12 || echo "DX12 under Wine: training ended with code $?"
}

in_parts "build tests bytes kills ctrl-c console devices" "$@"

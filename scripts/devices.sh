#!/usr/bin/env bash
# What has to hold on every device: the adapter is the one asked for, kernels agree with their twins and the golden values, bad numbers are
# noticed, runs repeat to the bit, and the demo groks.
#
#   GROKSCOPE_TEST_ADAPTER=NAME scripts/devices.sh     part of an adapter's name, as `grokscope devices` lists it
#
# GROKSCOPE_TEST_KERNELS=wide does it with the kernels for devices with many cores, as --kernels does.
#
# Needs nothing but cargo and the adapter.
set -euo pipefail
cd "$(dirname "$0")/.."
adapter=${GROKSCOPE_TEST_ADAPTER:?the adapter to run on}
export NODEVICE_SELECT=1
for tests in the_adapter_is kernels_ program_repeats updates_agree golden_method adamw_ bad_numbers one_hash a_model_alone a_resumed_state of_every_method stretches training_goes_on at_every_remainder tiles_of_every_size self_check_launches; do
    cargo test --release --locked --test suite -- "$tests" | tee target/devices.log
    # A name that nothing has any more would pass.
    grep -qE '^test result: ok\. [1-9]' target/devices.log
done
run=target/demo-on-device
rm -rf "$run"
cargo run --release --locked -- train --preset demo --device "$adapter" --kernels "${GROKSCOPE_TEST_KERNELS:-auto}" --quiet --out "$run"
grep -q '"grokked": true' "$run/summary.json"
cargo run --release --locked -- train --preset demo --device cpu --quiet --out "$run/cpu"

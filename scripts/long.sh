#!/usr/bin/env bash
# The long forms of the tests of reliability, whose short ones are part of scripts/test.sh.
#
#   scripts/long.sh kills      1,000 kills at random moments                               two minutes
#   scripts/long.sh losses     100 devices destroyed at random moments                     a minute
#   scripts/long.sh hashes     20 runs of 200 steps, one hash a device                     a minute
#   scripts/long.sh guard      20 full runs in which nothing is taken for a bad number     ten minutes
#   scripts/long.sh soak       100 trainers and an hour of training on each engine         two hours
#   scripts/long.sh swiftshader   scripts/devices.sh on the driver that Chromium carries   ten minutes
#   scripts/long.sh wide          the kernels for devices with many cores, on that driver and on llvmpipe   forty minutes
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
kills) GROKSCOPE_KILLS=1000 scripts/test.sh --test suite -- survives_kills ;;
losses) GROKSCOPE_LOSSES=100 scripts/test.sh --test suite -- when_the_device_goes_away ;;
hashes) GROKSCOPE_REPEATS=20 scripts/test.sh --test suite -- one_hash ;;
soak) GROKSCOPE_TRAINERS=100 GROKSCOPE_SOAK_SECONDS=3600 scripts/test.sh --test suite -- memory_stays ;;
guard)
    cargo build --release --locked
    for seed in $(seq 0 19); do
        rm -rf target/guard
        target/release/grokscope train --seed "$seed" --device cpu --quiet --out target/guard >target/guard.log || {
            echo "seed $seed ended with code $?"
            cat target/guard.log
            exit 1
        }
    done
    echo "20 full runs, no false alarm"
    ;;
swiftshader)
    driver=$(find /usr/lib/chromium -name vk_swiftshader_icd.json)
    VK_DRIVER_FILES=$driver VK_ICD_FILENAMES=$driver GROKSCOPE_TEST_ADAPTER=SwiftShader scripts/devices.sh
    ;;
wide)
    export GROKSCOPE_TEST_KERNELS=wide
    "$0" swiftshader
    GROKSCOPE_TEST_ADAPTER=llvmpipe scripts/devices.sh
    ;;
*)
    sed -n '2,10p' "$0"
    exit 1
    ;;
esac

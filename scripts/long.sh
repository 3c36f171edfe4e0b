#!/usr/bin/env bash
# The long forms of tests whose short ones are part of scripts/test.sh.
#
#   scripts/long.sh kills      1,000 kills at random moments                               two minutes
#   scripts/long.sh losses     100 devices destroyed at random moments                     a minute
#   scripts/long.sh hashes     20 runs of 200 steps, one hash a device                     a minute
#   scripts/long.sh guard      20 full runs in which nothing is taken for a bad number     ten minutes
#   scripts/long.sh soak       100 trainers and an hour of training on each engine         two hours
#   scripts/long.sh swiftshader   scripts/devices.sh on the driver that Chromium carries   ten minutes
#   scripts/long.sh wide          the kernels for devices with many cores, on that driver and on llvmpipe   forty minutes
#   scripts/long.sh claims        every claim of the certificate, on 17 networks and 153 that break one        two hours
#   scripts/long.sh keys          key frequencies of 280 networks                                              an hour
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
claims) GROKSCOPE_CLAIMS=$PWD/target/claims scripts/test.sh --test suite -- every_claim_is_failed ;;
keys)
    cargo build --release --locked
    for sweep in wide small narrow; do
        target/release/grokscope sweep run "tests/keys/$sweep.toml" --out "target/keys/$sweep" --device cpu --quiet
    done
    GROKSCOPE_KEYS=target/keys/wide,target/keys/small,target/keys/narrow scripts/test.sh --test suite -- keys_carry_the_answers
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
    sed -n '2,12p' "$0"
    exit 1
    ;;
esac

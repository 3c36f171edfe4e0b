#!/usr/bin/env bash
# Passes the tests: sees to a software Vulkan adapter, then runs cargo test.
#
#   scripts/test.sh [ARGUMENTS OF cargo test]
#   GROKSCOPE_TEST_ADAPTER=NAME scripts/test.sh   on the adapter of that name instead of llvmpipe
#   GROKSCOPE_NO_ADAPTER=1 scripts/test.sh        on a machine that is to have none: kernel tests are reported as ignored
set -euo pipefail
cd "$(dirname "$0")/.."

has_lavapipe() {
    ls /usr/share/vulkan/icd.d/lvp_icd*.json /etc/vulkan/icd.d/lvp_icd*.json >/dev/null 2>&1 && ldconfig -p | grep -q 'libvulkan\.so\.1'
}

if [ "${GROKSCOPE_NO_ADAPTER:-}" != 1 ] && [ -z "${GROKSCOPE_TEST_ADAPTER:-}" ] && ! has_lavapipe; then
    as_root=""
    [ "$(id -u)" = 0 ] || as_root="sudo"
    echo "installing mesa-vulkan-drivers, the software Vulkan adapter of the tests" >&2
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mesa-vulkan-drivers
fi

# Mesa's device-ordering layer looks for a Wayland session and complains where there is none.
export NODEVICE_SELECT=1
exec cargo test --release --locked "$@"

#!/usr/bin/env bash
# Passes the tests: sees to what they need beside cargo, then runs cargo test.
#
#   scripts/test.sh [ARGUMENTS OF cargo test]
#   GROKSCOPE_TEST_ADAPTER=NAME scripts/test.sh   on the adapter of that name instead of llvmpipe
#   GROKSCOPE_NO_ADAPTER=1 scripts/test.sh        on a machine that is to have none: kernel tests are reported as ignored
#
# They need a software Vulkan adapter for the kernels, Vulkan's headers for a layer, Chromium for the page, and Python with NumPy for the numbers.
set -euo pipefail
cd "$(dirname "$0")/.."

has_lavapipe() {
    compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' >/dev/null || compgen -G '/etc/vulkan/icd.d/lvp_icd*.json' >/dev/null || return 1
    # Without -q, which would break the pipe and, with pipefail, the answer.
    ldconfig -p | grep 'libvulkan\.so\.1' >/dev/null
}
can_make_venv() {
    python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

packages=()
if [ "${GROKSCOPE_NO_ADAPTER:-}" != 1 ] && [ -z "${GROKSCOPE_TEST_ADAPTER:-}" ] && ! has_lavapipe; then
    packages+=(mesa-vulkan-drivers)
fi
[ -f /usr/include/vulkan/vk_layer.h ] || packages+=(libvulkan-dev)
[ -x /usr/bin/chromium ] && [ -x /usr/bin/chromedriver ] || packages+=(chromium chromium-driver fonts-dejavu-core)
can_make_venv || packages+=(python3 python3-venv)
[ ${#packages[@]} -eq 0 ] || scripts/install.sh "${packages[@]}"

venv=target/test-venv
scripts/venv.sh tests/requirements.txt "$venv"

# Here and not in a test: maturin takes target/release/grokscope away for the seconds in which it packs it.
PATH="$PWD/$venv/bin:$PATH" "$venv/bin/pip" install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --force-reinstall .
"$venv/bin/pip" check --quiet

# Mesa's device-ordering layer looks for a Wayland session and complains where there is none.
export NODEVICE_SELECT=1
exec cargo test --release --locked "$@"

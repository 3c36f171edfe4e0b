#!/usr/bin/env bash
# Installs what one judge of scripts/compilers.sh needs: Debian packages, and the rest below target/compilers/.
#
#   scripts/compilers/install.sh JUDGE
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=scripts/compilers
here=$PWD/target/compilers
mkdir -p "$here"

# Installs the packages whose commands or files are not there: `need COMMAND_OR_FILE PACKAGE`, several times, then `install_needed`.
packages=()
need() { command -v "$1" >/dev/null || [ -e "$1" ] || packages+=("$2"); }
install_needed() { [ ${#packages[@]} -eq 0 ] || scripts/install.sh "${packages[@]}"; }

# Mesa 25 or later: Dawn refuses Mesa 22.3, and RADV of 22.3 knows no GFX940. Debian 12 has it in its backports, which are unpacked
# and not installed, so that the tests keep the system's llvmpipe.
mesa() {
    need /usr/share/vulkan/icd.d/lvp_icd.x86_64.json mesa-vulkan-drivers # the libraries that Mesa needs
    need /usr/include/vulkan/vk_layer.h libvulkan-dev
    need gcc gcc
    install_needed
    [ -e "$here/mesa/done" ] || $tools/mesa.sh "$here/mesa"
    mkdir -p "$here/layers"
    local layer=$here/layers/libnull_layer.so
    if [ $tools/null_layer.c -nt "$layer" ] || [ $tools/layer.h -nt "$layer" ]; then
        gcc -shared -fPIC -O1 -Wall -Wextra -Werror $tools/null_layer.c -o "$layer"
        cp $tools/null_layer.json "$here/layers/"
    fi
}

# Dawn for Node, which brings Microsoft's compilers for Windows as well.
dawn() {
    need node nodejs
    need npm npm
    install_needed
    mkdir -p "$here/dawn"
    if ! cmp -s $tools/package-lock.json "$here/dawn/installed.json"; then
        cp $tools/package.json $tools/package-lock.json "$here/dawn/"
        (cd "$here/dawn" && npm ci --ignore-scripts --no-audit --no-fund --silent)
        cp $tools/package-lock.json "$here/dawn/installed.json"
    fi
}

wine() {
    need /usr/lib/wine/wine64 wine64
    need x86_64-w64-mingw32-gcc gcc-mingw-w64-x86-64-win32
    install_needed
    dawn
    mkdir -p "$here/wine"
    cp "$here"/dawn/node_modules/webgpu/dist/win32-x64/{dxcompiler,d3dcompiler_47}.dll "$here/wine/"
    if [ ! -e "$here/wine/compile_hlsl.exe" ] || [ $tools/compile_hlsl.c -nt "$here/wine/compile_hlsl.exe" ]; then
        x86_64-w64-mingw32-gcc -O1 -Wall -Wextra -Werror $tools/compile_hlsl.c -o "$here/wine/compile_hlsl.exe"
    fi
    if [ ! -e "$here/wine/prefix/done" ]; then
        WINEPREFIX=$here/wine/prefix WINEDEBUG=-all /usr/lib/wine/wine64 wineboot -i >"$here/wine/wineboot.log" 2>&1
        touch "$here/wine/prefix/done"
    fi
}

case "${1:?the judge}" in
    tint)
        mesa
        dawn
        ;;
    radv)
        mesa
        need /usr/share/doc/python3-venv python3-venv
        install_needed
        scripts/venv.sh $tools/requirements-vulkan.txt target/compilers/vulkan
        ;;
    pipelines) mesa ;;
    glslang)
        need glslangValidator glslang-tools
        install_needed
        ;;
    spirv-val)
        need spirv-val spirv-tools
        install_needed
        ;;
    dxc | fxc) wine ;;
    ptxas)
        need g++ g++
        need /usr/share/doc/python3-venv python3-venv
        install_needed
        scripts/venv.sh $tools/requirements-cuda.txt target/compilers/cuda
        ;;
    msl)
        need g++ g++
        install_needed
        ;;
    *) echo "unknown judge '$1'" >&2 && exit 1 ;;
esac

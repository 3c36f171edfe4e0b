#!/usr/bin/env bash
# Unpacks Mesa 25 or later into a directory without installing it. It comes from the Debian release or from its backports.
#
#   scripts/compilers/mesa.sh DIR
set -euo pipefail
mkdir -p "$1"
dir=$(cd "$1" && pwd)
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
release=$codename

version=$(apt-cache show --no-all-versions mesa-vulkan-drivers | sed -n 's/^Version: //p')
options=()
if dpkg --compare-versions "$version" lt 25; then
    # Lists of its own: the system's package sources stay as they are.
    release=$codename-backports
    mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $codename" 'Created-By: Packages' | head -1)
    mkdir -p "$dir/apt/lists/partial"
    echo "deb $mirror $release main" >"$dir/apt/sources.list"
    options=(-o "Dir::Etc::SourceList=$dir/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$dir/apt/lists"
        -o "Dir::Cache=$dir/apt" -o APT::Sandbox::User=root)
    apt-get -qq "${options[@]}" update
fi

rm -rf "$dir/debs" "$dir/usr"
mkdir -p "$dir/debs"
(cd "$dir/debs" && apt-get -qq "${options[@]}" download "mesa-vulkan-drivers/$release" "libdrm2/$release" "libdrm-amdgpu1/$release")
for package in "$dir"/debs/*.deb; do dpkg -x "$package" "$dir"; done
# The driver manifests, with the path of the library.
for driver in radeon lvp; do
    library=$(find "$dir/usr/lib" -name "libvulkan_$driver*.so" | head -1)
    printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.4.0"}}\n' "$library" >"$dir/$driver.json"
    [ -n "$library" ]
done
dpkg-deb -f "$dir"/debs/mesa-vulkan-drivers_*.deb Version >"$dir/version"
touch "$dir/done"

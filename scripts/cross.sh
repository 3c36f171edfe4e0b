# Shared by scripts/windows.sh and scripts/arm64.sh, which source it: the compiler for both targets. Nothing of it is installed: it is
# unpacked below target/cross, because Debian's packages of Rust conflict with rustup's.

cross=$PWD/target/cross
export CARGO_TARGET_DIR=$cross/build

fail() {
    echo "$*" >&2
    exit 1
}

# Installs the packages that are missing.
need() {
    local missing=()
    for package in "$@"; do
        dpkg-query --show --showformat '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] || scripts/install.sh "${missing[@]}"
}

# Unpacks Debian's rustc-web (kept for Firefox, so its version moves) with the source of its std into target/cross/rust.
compiler() {
    if [ ! -x "$cross/rustc" ]; then
        need ca-certificates gcc libc6-dev
        local std llvm
        std=$(apt-cache depends libstd-rust-web-dev | sed -n 's/.*Depends: \(libstd-rust-web-[0-9.]*\)$/\1/p')
        llvm=$(apt-cache depends "${std:-none}" | sed -n 's/.*Depends: \(libllvm[0-9]*\)$/\1/p')
        [ -n "$std" ] && [ -n "$llvm" ] ||
            fail "rustc-web: not in the apt sources. Add bookworm-security, run apt-get update, and run this again"
        rm -rf "$cross/rust" "$cross/packages"
        mkdir -p "$cross/rust" "$cross/packages"
        (cd "$cross/packages" && apt-get download -qq rustc-web libstd-rust-web-dev rust-web-src "$std" "$llvm")
        for package in "$cross"/packages/*.deb; do dpkg-deb -x "$package" "$cross/rust"; done
        rm -rf "$cross/packages"
        cat >"$cross/rustc.tmp" <<'WRAPPER'
#!/bin/sh
root=$(dirname "$0")/rust/usr
LD_LIBRARY_PATH=$root/lib/x86_64-linux-gnu exec "$root/bin/rustc" "$@"
WRAPPER
        chmod +x "$cross/rustc.tmp"
        mv "$cross/rustc.tmp" "$cross/rustc"
    fi
    export RUSTC=$cross/rustc RUSTC_BOOTSTRAP=1 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=0
}

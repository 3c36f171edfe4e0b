# Shared by scripts/windows.sh and scripts/arm64.sh, which source it: a compiler for both targets, builds, and the comparison of runs.
# Everything lies below target/cross.

cross=$PWD/target/cross
# Debian's compiler builds here, rustup's in target/release.
build=$cross/build
runs=$cross/runs
native=$PWD/target/release/grokscope
# The suite runs without an adapter: `windows.sh devices` checks adapters.
export GROKSCOPE_NO_ADAPTER=1 NO_COLOR=1

fail() {
    echo "FAILED: $*" >&2
    return 1
}

# Installs the packages that are missing.
need() {
    local missing=()
    for package in "$@"; do
        [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] || scripts/install.sh "${missing[@]}"
}

# Unpacks Debian's rustc-web, with the source of its std, into target/cross/rust. Debian keeps it for Firefox, so its version moves. It is
# not installed, because Debian's packages of Rust conflict with rustup's.
compiler() {
    [ ! -x "$cross/rustc" ] || return 0
    need ca-certificates gcc libc6-dev
    local std llvm packages=$cross/packages
    std=$(apt-cache depends libstd-rust-web-dev 2>/dev/null | sed -n 's/.*Depends: \(libstd-rust-web-[0-9.]*\)$/\1/p' || true)
    llvm=$(apt-cache depends "${std:-none}" 2>/dev/null | sed -n 's/.*Depends: \(libllvm[0-9]*\)$/\1/p' || true)
    [ -n "$std" ] && [ -n "$llvm" ] || fail "rustc-web is not in the apt sources. Add bookworm-security, then run apt-get update"
    rm -rf "$cross/rust" "$packages"
    mkdir -p "$cross/rust" "$packages"
    (cd "$packages" && apt-get download -qq rustc-web libstd-rust-web-dev rust-web-src "$std" "$llvm")
    for package in "$packages"/*.deb; do dpkg-deb -x "$package" "$cross/rust"; done
    rm -rf "$packages"
    cat >"$cross/rustc.tmp" <<'WRAPPER'
#!/bin/sh
root=$(dirname "$0")/rust/usr
LD_LIBRARY_PATH=$root/lib/x86_64-linux-gnu exec "$root/bin/rustc" "$@"
WRAPPER
    chmod +x "$cross/rustc.tmp"
    mv "$cross/rustc.tmp" "$cross/rustc"
}

# cargo with that compiler. -Z needs RUSTC_BOOTSTRAP. Optimization level 1 halves the time of a build and changes no bit.
cross_cargo() {
    RUSTC=$cross/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$build \
        CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=0 cargo "$@"
}

# Runs a command of `cargo test` and fails if no test passed, for example because a test was renamed.
passes() {
    local log=$cross/tests.log
    "$@" 2>&1 | tee "$log"
    grep -qE '^test result: ok\. [1-9]' "$log" || fail "no test passed: $*"
}

# Fails unless two runs have the same metrics and weights.
same_bytes() {
    for file in metrics.jsonl model.safetensors; do
        cmp "$1/$file" "$2/$file" || fail "$file differs between $1 and $2" || return 1
    done
}

# same_run NAME ARGUMENTS..: trains natively and with the command in `emulated`, and compares the two.
same_run() {
    local name=$1 place=$runs/$1
    shift
    rm -rf "$place"
    mkdir -p "$place"
    "$native" train "$@" --device cpu --quiet --out "$place/native" >/dev/null
    "${emulated[@]}" train "$@" --device cpu --quiet --out "target/cross/runs/$name/emulated" >/dev/null
    same_bytes "$place/native" "$place/emulated"
    echo "$name: the same bytes of metrics.jsonl and model.safetensors"
}

# The histories that are compared: what each sets beside the preset.
histories=("composed --program composed" "layered --program layered" "muon --optimizer muon" "grokfast --grokfast ema"
    "sgd --optimizer sgd" "stablemax --loss stablemax")

# same_histories PREFIX ARGUMENTS..: same_run of each history.
same_histories() {
    local prefix=$1 history words
    shift
    for history in "${histories[@]}"; do
        read -ra words <<<"$history"
        same_run "$prefix-${words[0]}" "${words[@]:1}" "$@"
    done
}

# in_parts "PART .." [ASKED ..]: runs the functions part_PART that are asked for, and fails if one of them fails. Runs all parts if none is named.
in_parts() {
    local known=$1 part failed=()
    shift
    local parts=("$@")
    if [ $# -eq 0 ] || [ "$*" = all ]; then read -ra parts <<<"$known"; fi
    for part in "${parts[@]}"; do
        [[ " $known " == *" $part "* ]] || fail "unknown part '$part'. Use one of: $known all"
    done
    if [ ${#parts[@]} -eq 1 ]; then
        "part_${part//-/_}"
        echo "done: $0 $part"
        return
    fi
    # Each part is a process of its own, so that the others run even if one fails.
    for part in "${parts[@]}"; do "$0" "$part" || failed+=("$part"); done
    [ ${#failed[@]} -eq 0 ] || fail "$0 ${failed[*]}"
    echo "done: $0 ${parts[*]}"
}

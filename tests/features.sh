#!/usr/bin/env bash
# Each published crate without features, with each of its features alone, and with all of them: each must build without a warning.
# The peers of the comparison are left out, unless --peers is given, and Aeron in any case: it takes a newer CMake than most
# machines have. With --minimal also the oldest versions of the
# dependencies that the manifests allow, in a copy of the tree; that needs the registry.
set -euo pipefail
cd "$(dirname "$0")/.."

peers='' minimal=''
for argument; do
    case $argument in
        --peers) peers=1 ;;
        --minimal) minimal=1 ;;
        *) echo "usage: tests/features.sh [--peers] [--minimal]" >&2; exit 2 ;;
    esac
done

# Lines of a package and a set of features; a dash is none.
sets() {
    cargo metadata --no-deps --offline --locked --format-version 1 | python3 -c '
import json, sys
for package in json.load(sys.stdin)["packages"]:
    if package["publish"] == []:
        continue
    names = [name for name in package["features"] if name not in ("default", "aeron") and (name != "peers" or sys.argv[1])]
    chosen = ["-"] + names + ([",".join(names)] if len(names) > 1 else [])
    for features in chosen:
        print(package["name"], features)
' "$peers"
}

sets=$(sets)
while read -r package features; do
    echo "=== $package: $features"
    arguments=()
    [ "$features" = - ] || arguments=(--features "$features")
    cargo clippy --quiet --locked --package "$package" --no-default-features "${arguments[@]}" -- -D warnings
done <<< "$sets"

if [ -n "$minimal" ]; then
    echo "=== the oldest dependencies"
    copy=$(mktemp -d)
    trap 'rm -r "$copy"' EXIT
    git ls-files -z | tar --null --files-from - --create | tar --extract --directory "$copy"
    target=$PWD/target/minimal
    cd "$copy"
    # What is only tested is not asked, nor are the peers.
    sed -i 's/"ipc-examples", "tests", //' Cargo.toml
    sed -i '/optional = true/d; /^peers = /d; /^aeron = /d' benches/Cargo.toml
    # The flag is an unstable one of cargo; the compiler is the stable one.
    RUSTC_BOOTSTRAP=1 cargo update --quiet -Z direct-minimal-versions
    packages=$(cut -d ' ' -f 1 <<< "$sets" | sort -u | sed 's/^/--package /')
    # shellcheck disable=SC2086
    CARGO_TARGET_DIR=$target RUSTC_BOOTSTRAP=1 RUSTFLAGS='-A unexpected_cfgs' cargo check --quiet $packages --features ipc-ring/tokio
fi

#!/usr/bin/env bash
# The rings between threads under ThreadSanitizer, on the stable toolchain. It does not understand fences, so what it
# proves is that payloads are only touched by their owner, and that the orderings of the words make that visible.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(rustc -vV | sed -n 's/^host: //p')
case $target in
x86_64-*-linux-gnu | aarch64-*-linux-gnu) ;;
*)
    echo "skipped: no ThreadSanitizer for $target"
    exit 0
    ;;
esac
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer --cfg ipc_tsan"
export TSAN_OPTIONS="halt_on_error=1 suppressions=$PWD/tests/tsan.supp"
cargo test --target "$target" --target-dir target/tsan -p ipc-tests --test threads "$@"

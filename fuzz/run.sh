#!/bin/sh
# Runs every fuzz target for SECONDS each (60 if not given), on the stable toolchain: fuzz/run.sh [SECONDS] [TARGET...]
# What is found lies in fuzz/target/found; what is new in the corpus stays in fuzz/target/corpus.
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- $(ls src/bin | sed 's/\.rs$//')
# The coverage that libFuzzer asks for; address checks would need a nightly toolchain.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
# With a target, the flags do not go to build scripts and macros.
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --quiet --target "$host"
for target in "$@"; do
    mkdir -p "target/corpus/$target" target/found
    echo "$target: $seconds seconds"
    "target/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -verbosity=0 -artifact_prefix="target/found/$target-" "target/corpus/$target" "corpus/$target"
done

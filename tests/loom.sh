#!/bin/sh
# Checks the algorithms on weak memory: every execution of a few threads that the C11 memory model allows, up to a bound on
# preemptions. Arguments go to the test program, such as the name of a model.
set -eu
cd "$(dirname "$0")/.."
export RUSTFLAGS="${RUSTFLAGS:-} --cfg loom"
export CARGO_TARGET_DIR="${LOOM_TARGET_DIR:-target/loom}"
export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-2}"
# What is optimised is the models, each of which runs thousands of times; linking with all the rest would take longer.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
exec cargo test --release -p ipc-tests --test loom -- --nocapture "$@"

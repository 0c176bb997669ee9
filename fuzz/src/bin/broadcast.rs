//! `broadcast`, with a peer that writes anything into its words: every call comes back, and none panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| ipc_fuzz::play("broadcast", script));

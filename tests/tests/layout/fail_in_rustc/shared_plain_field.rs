use std::sync::atomic::AtomicU64;

use ipc_core::{Layout, Shared};

#[derive(Layout, Shared)]
#[repr(C)]
struct Counters {
    sent: AtomicU64,
    received: u64,
}

fn main() {}

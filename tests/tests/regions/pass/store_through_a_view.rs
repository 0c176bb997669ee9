use std::sync::atomic::{AtomicU64, Ordering};

use ipc_core::region::Region;

fn set(view: &Region<AtomicU64>) {
    view.store(1, Ordering::Relaxed);
}

fn main() {}

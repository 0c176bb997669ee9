use std::sync::atomic::{AtomicU64, Ordering};

use ipc_core::region::RegionView;

fn set(view: &RegionView<AtomicU64>) {
    view.store(1, Ordering::Relaxed);
}

fn main() {}

use std::sync::atomic::AtomicU64;

use ipc_core::region::Region;

fn only(region: &mut Region<AtomicU64>) -> &mut AtomicU64 {
    &mut *region
}

fn main() {}

use std::sync::atomic::AtomicU64;

use ipc_core::region::Region;

fn only(region: &mut Region<AtomicU64>) -> &AtomicU64 {
    &*region
}

fn main() {}

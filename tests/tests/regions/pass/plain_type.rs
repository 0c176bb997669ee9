use ipc_core::region::Region;

fn value(region: &Region<std::sync::atomic::AtomicU64>) -> &std::sync::atomic::AtomicU64 {
    region
}

fn main() {}

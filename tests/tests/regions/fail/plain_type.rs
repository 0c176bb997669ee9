use ipc_core::region::Region;

fn value(region: &Region<u64>) -> &u64 {
    region
}

fn main() {}

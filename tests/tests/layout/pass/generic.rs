#[allow(unused_imports)]
use ipc_core::Layout;

#[allow(dead_code)]
#[derive(Clone)]
#[repr(C)]
struct Levels<const N: usize> {
    prices: [u64; N],
}

fn main() {}

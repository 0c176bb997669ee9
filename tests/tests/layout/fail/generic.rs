#[allow(unused_imports)]
use ipc_core::Layout;

#[allow(dead_code)]
#[derive(Layout)]
#[repr(C)]
struct Levels<const N: usize> {
    prices: [u64; N],
}

fn main() {}

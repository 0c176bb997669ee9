#[allow(unused_imports)]
use ipc_core::Layout;

#[allow(dead_code)]
#[derive(Clone)]
#[repr(u8)]
enum Side {
    Buy,
    Sell,
}

fn main() {}

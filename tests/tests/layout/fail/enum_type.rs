#[allow(unused_imports)]
use ipc_core::Layout;

#[allow(dead_code)]
#[derive(Layout)]
#[repr(u8)]
enum Side {
    Buy,
    Sell,
}

fn main() {}

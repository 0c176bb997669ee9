use ipc_core::Layout;

#[allow(dead_code)]
#[repr(u8)]
enum Side {
    Buy,
    Sell,
}

#[derive(Layout)]
#[repr(C)]
struct Tick {
    side: Side,
}

fn main() {}

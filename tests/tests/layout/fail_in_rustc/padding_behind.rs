use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    price: u64,
    side: u8,
}

fn main() {}

use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    side: u8,
    price: u64,
}

fn main() {}

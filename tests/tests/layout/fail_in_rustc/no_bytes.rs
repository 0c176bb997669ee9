use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    price: u64,
    more: [u64; 0],
}

fn main() {}

use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    side: u64,
    price: u64,
}

fn main() {}

use ipc_core::Layout;

#[derive(Layout)]
#[repr(C, packed(8))]
struct Tick {
    price: u64,
}

fn main() {}

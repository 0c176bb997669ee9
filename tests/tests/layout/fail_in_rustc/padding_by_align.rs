use ipc_core::Layout;

#[derive(Layout)]
#[repr(C, align(16))]
struct Tick {
    price: u64,
}

fn main() {}

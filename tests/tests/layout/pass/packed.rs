use ipc_core::Layout;

#[derive(Layout)]
#[repr(C, align(8))]
struct Tick {
    price: u64,
}

fn main() {}

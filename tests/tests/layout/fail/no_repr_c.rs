use ipc_core::Layout;

#[derive(Layout)]
#[repr(Rust)]
struct Tick {
    price: u64,
}

fn main() {}

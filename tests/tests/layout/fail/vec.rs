use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    field: Vec<u8>,
}

fn main() {}

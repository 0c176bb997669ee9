use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    field: [u8; 8],
}

fn main() {}

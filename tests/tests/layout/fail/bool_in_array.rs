use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    field: [bool; 8],
}

fn main() {}

use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    field: u64,
}

fn main() {}

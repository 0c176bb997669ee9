use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    field: Option<u64>,
}

fn main() {}

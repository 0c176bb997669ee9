use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    field: usize,
}

fn main() {}

use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    field: isize,
}

fn main() {}

use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    field: i64,
}

fn main() {}

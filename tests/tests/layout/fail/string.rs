use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    field: String,
}

fn main() {}

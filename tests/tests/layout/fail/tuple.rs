use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    field: (u32, u32),
}

fn main() {}

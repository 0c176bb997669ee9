use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    field: *const u8,
}

fn main() {}

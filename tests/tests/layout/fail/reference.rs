use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    field: &'static u8,
}

fn main() {}

use ipc_core::Layout;

type Flag = u8;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    flag: Flag,
}

fn main() {}

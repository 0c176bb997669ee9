use ipc_core::Layout;

type Flag = bool;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    flag: Flag,
}

fn main() {}

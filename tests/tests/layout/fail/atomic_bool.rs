use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
struct Tick {
    field: std::sync::atomic::AtomicBool,
}

fn main() {}

use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
union Tick {
    price: u64,
}

fn main() {}

use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
#[layout(name = "feed.Tick")]
struct Tick {
    price: u64,
}

fn main() {}

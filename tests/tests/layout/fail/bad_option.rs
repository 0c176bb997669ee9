use ipc_core::Layout;

#[derive(Layout)]
#[repr(C)]
#[layout(title = "feed.Tick")]
struct Tick {
    price: u64,
}

fn main() {}

#[allow(unused_imports)]
use ipc_core::Layout;

#[allow(dead_code)]
#[derive(Layout)]
#[repr(C)]
struct Nothing {}

fn main() {}

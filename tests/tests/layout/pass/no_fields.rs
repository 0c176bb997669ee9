#[allow(unused_imports)]
use ipc_core::Layout;

#[allow(dead_code)]
#[derive(Clone)]
#[repr(C)]
struct Nothing {}

fn main() {}

//! `pagesize` prints the size of a page on this machine: `page size: 4096 bytes`.

fn main() {
    println!("page size: {} bytes", ipc_core::mapping::page_size());
}

use ipc_core::region::SharedCell;

fn value(cell: &SharedCell<u8>) -> u8 {
    cell.get()
}

fn main() {}

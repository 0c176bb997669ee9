use ipc_core::region::SharedCell;

fn value(cell: &SharedCell<bool>) -> bool {
    cell.get()
}

fn main() {}

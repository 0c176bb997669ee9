//! The whole comparison, with the peers that were compiled in.

use ipc_benches::{command, peers, subject};

fn main() -> anyhow::Result<()> {
    let mut subjects = subject::all();
    subjects.extend(peers::all());
    command::main(&subjects)
}

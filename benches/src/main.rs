//! The whole comparison, with the peers that were compiled in.

fn main() -> anyhow::Result<()> {
    ipc_benches::command::main(&ipc_benches::subject::all())
}

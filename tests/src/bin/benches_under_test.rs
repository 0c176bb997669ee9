//! The comparison without peers.

fn main() -> anyhow::Result<()> {
    ipc_benches::command::main(&ipc_benches::subject::all())
}

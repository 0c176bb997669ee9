//! `lock-secret` keeps a secret in memory that is not swapped, not dumped, not inherited, and wiped when it is dropped.

use std::io::Read;

use ipc_core::{
    MapOptions,
    mapping::{MapError, SecretBuffer},
};
use ipc_examples::child;
use nix::{
    sys::resource::{Resource, setrlimit},
    unistd::{Uid, geteuid, seteuid},
};

fn main() -> anyhow::Result<()> {
    let mut secret = SecretBuffer::new(32)?;
    std::fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
    println!("{secret:?}");
    child::run(|| {
        println!(
            "the child finds zeros: {}",
            secret.iter().all(|byte| *byte == 0)
        );
        Ok(())
    })?;
    println!(
        "the parent has it: {}",
        secret.iter().any(|byte| *byte != 0)
    );
    drop(secret);

    // Ordinary users may lock only so much.
    child::run(|| {
        setrlimit(Resource::RLIMIT_MEMLOCK, 64 << 10, 64 << 10)?;
        if geteuid().is_root() {
            seteuid(Uid::from_raw(65534))?;
        }
        match MapOptions::new().len(1 << 20).lock().map_anonymous() {
            Err(error @ MapError::LockLimit { .. }) => println!("{error}"),
            other => println!("no limit: {other:?}"),
        }
        Ok(())
    })
}

//! What takes part in a race, and in which of its suites.

use anyhow::Result;

use crate::measure::{Case, Latency, ping_pong, stream};
use crate::transport::Transport;

/// Whose side a subject is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// One of this project's.
    Ours,
    /// What the machine allows at best.
    Limit,
    /// Somebody else's way of doing it.
    Peer,
}

/// Something that takes part. A suite that it cannot take part in gives `None`.
pub trait Subject {
    /// Its name in tables.
    fn name(&self) -> &'static str;

    /// Whose side it is on.
    fn side(&self) -> Side;

    /// The version of what is measured, where it is not part of this project.
    fn version(&self) -> Option<&'static str> {
        None
    }

    /// Nanoseconds per message of a stream.
    fn stream(&self, _case: &Case) -> Option<Result<f64>> {
        None
    }

    /// One-way latencies.
    fn ping_pong(&self, _case: &Case) -> Option<Result<Latency>> {
        None
    }
}

/// Transports whose messages are a compile-time number of words.
pub trait Typed {
    /// The transport for messages of `W` words.
    type Of<const W: usize>: Transport;
}

/// [`stream`] for the compiled sizes.
pub fn stream_typed<F: Typed>(case: &Case) -> Option<Result<f64>> {
    Some(match case.shape.payload {
        8 => stream::<F::Of<1>>(case),
        24 => stream::<F::Of<3>>(case),
        56 => stream::<F::Of<7>>(case),
        64 => stream::<F::Of<8>>(case),
        256 => stream::<F::Of<32>>(case),
        1024 => stream::<F::Of<128>>(case),
        4096 => stream::<F::Of<512>>(case),
        _ => return None,
    })
}

/// [`ping_pong`] for the compiled sizes.
pub fn ping_pong_typed<F: Typed>(case: &Case) -> Option<Result<Latency>> {
    Some(match case.shape.payload {
        8 => ping_pong::<F::Of<1>>(case),
        24 => ping_pong::<F::Of<3>>(case),
        56 => ping_pong::<F::Of<7>>(case),
        64 => ping_pong::<F::Of<8>>(case),
        256 => ping_pong::<F::Of<32>>(case),
        1024 => ping_pong::<F::Of<128>>(case),
        4096 => ping_pong::<F::Of<512>>(case),
        _ => return None,
    })
}

/// Everything that takes part without further crates.
pub fn all() -> Vec<Box<dyn Subject>> {
    vec![
        Box::new(crate::ours::spsc::Spsc),
        Box::new(crate::limits::hop::Hop),
        Box::new(crate::limits::handover::Handover),
        Box::new(crate::kernel::Pipe),
        Box::new(crate::kernel::UnixSocket),
        Box::new(crate::kernel::PosixMq),
    ]
}

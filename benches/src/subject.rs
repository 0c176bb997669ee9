//! What takes part in a run, and how it is measured.

use anyhow::Result;

use crate::measure::{Case, Measure, Values, over, over_most, over_paced, over_pair};
use crate::transport::{Shape, Transport};

/// Whose side a subject is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// One of this project's.
    Ours,
    /// One of this project's a second time: how far apart two equal ones come to be measured.
    Again,
    /// One of this project's used in another way.
    Other,
    /// What the machine allows at best.
    Limit,
    /// Somebody else's way of doing it.
    Peer,
}

/// Something that takes part.
pub trait Subject {
    /// Its name in tables.
    fn name(&self) -> &'static str;

    /// Whose side it is on.
    fn side(&self) -> Side;

    /// The version of what is measured, where it is not part of this project.
    fn version(&self) -> Option<&'static str> {
        None
    }

    /// After how many messages it wraps, if it is a ring of ours or one that is made as large as ours; 0 if not.
    fn slots(&self, shape: &Shape) -> u64 {
        if self.side() == Side::Ours {
            shape.capacity as u64
        } else {
            0
        }
    }

    /// Measures it, or tells by `None` that it cannot take part.
    fn measure(&self, what: Measure, case: &Case) -> Option<Result<Values>>;
}

/// Transports whose messages are a number of words that the compiler knows.
pub trait Typed {
    /// The transport for messages of `W` words.
    type Of<const W: usize>: Transport;
}

/// [`over`] for the sizes that are compiled.
pub fn over_typed<F: Typed>(what: Measure, case: &Case) -> Option<Result<Values>> {
    match case.shape.payload {
        8 => over::<F::Of<1>>(what, case),
        24 => over_pair::<F::Of<3>>(what, case),
        56 => over_pair::<F::Of<7>>(what, case),
        64 => over_most::<F::Of<8>>(what, case),
        256 => over_pair::<F::Of<32>>(what, case),
        1024 => over_paced::<F::Of<128>>(what, case),
        4096 => over_pair::<F::Of<512>>(what, case),
        _ => None,
    }
}

/// Everything that takes part without further crates.
pub fn all() -> Vec<Box<dyn Subject>> {
    vec![
        Box::new(crate::ours::Spsc),
        Box::new(crate::ours::Mpmc),
        Box::new(crate::ours::Bytes),
        Box::new(crate::ours::Lanes),
        Box::new(crate::ours::Broadcast),
        Box::new(crate::ours::Channel),
        Box::new(crate::limits::hop::Hop),
        Box::new(crate::limits::memcpy::Memcpy),
        Box::new(crate::limits::handover::Handover),
        Box::new(crate::limits::futex::Futex),
        Box::new(crate::limits::fetch_add::FetchAdd),
        Box::new(crate::kernel::Pipe),
        Box::new(crate::kernel::UnixSocket),
        Box::new(crate::kernel::PosixMq),
    ]
}

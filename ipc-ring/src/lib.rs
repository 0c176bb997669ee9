//! Rings in shared memory that survive the death of any process.
//!
//! # Which one do I want?
//!
//! | ring | for | order |
//! |---|---|---|
//! | [`spsc`] | one producer, one consumer, messages of one type | first in, first out |
//! | [`mpmc`] | any number of producers and consumers, messages of one type, each taken by one consumer | first in, first out; one that comes back from a dead consumer goes first |
//! | [`broadcast`] | one producer, any number of readers, messages of one type, each taken by every reader | first in, first out; a reader may choose to miss some |
//! | [`broadcast_bytes`] | one producer, any number of readers, records of any length, each taken by every reader | first in, first out; a reader may choose to miss some |
//! | [`bytes`] | one producer, one consumer, records of any length | first in, first out |
//! | [`lanes`] | many producers, one consumer, records of any length | first in, first out for each producer |
//! | [`channel`] | any number of producers, one consumer, values of any `serde` type | first in, first out for each producer |
//! | [`journal`] | any number of appenders and readers, records of any length in a file or several, which survive a power cut once synced | that of the claims |
//!
//! ```
//! use ipc_ring::{Ring, spsc};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let name = format!("doc-{}", std::process::id());
//! // In one process:
//! let ring = spsc::Ring::<u64>::options().capacity(1024).open_or_create(&name)?;
//! let mut producer = ring.producer()?;
//! producer.push(42)?;
//! producer.close();
//!
//! // In another, started before or after:
//! let ring = spsc::Ring::<u64>::options().capacity(1024).open_or_create(&name)?;
//! let mut consumer = ring.consumer()?;
//! assert_eq!(consumer.pop(), Ok(42));
//! assert_eq!(consumer.pop(), Err(ipc_ring::PopError::Closed));
//! # ipc_core::segment::Segment::unlink(&name)?;
//! # Ok(()) }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]

pub mod broadcast;
pub mod broadcast_bytes;
pub mod bytes;
#[cfg(feature = "channel")]
pub mod channel;
mod claim;
mod consumer;
mod error;
mod handle;
pub mod journal;
pub mod lanes;
mod loan;
pub mod mpmc;
mod observer;
mod pace;
mod producer;
pub mod ready;
mod ring;
pub mod role;
mod seat;
pub mod side;
mod slot;
pub mod spsc;
#[cfg(feature = "futures")]
pub mod stream;

pub use consumer::Consumer;
pub use error::{ClaimError, PopError, PushError};
pub use loan::{Loan, Reservation};
pub use observer::{Follower, Observer};
pub use producer::Producer;
pub use ring::{KINDS, ONLY, Options, Ring};
pub use seat::{Counters, Party, Statistics};

//! A stream of bytes over a ring of chunks: what `ipc produce` and `ipc consume` have in common.
//!
//! # Protocol
//!
//! Either side creates the segment, whoever comes first. The producer pushes chunks, the last of which is marked as the
//! end of the input, and closes the ring. The consumer removes the segment when it has seen the end.
//!
//! A stream has one producer and one consumer from its first byte to its last. A ring that closes without the mark, or
//! whose producer has died, was not finished: the consumer says so, and nobody goes on with the rest.
//!
//! # When a participant dies
//!
//! The one that is left notices within a tenth of a second, removes the segment, and ends with an error. If nobody is
//! left, the segment stays, and the next one who comes is told what it is and how to remove it.

use std::mem::offset_of;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytemuck::{Pod, Zeroable};
use clap::Args;
use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};
use ipc_core::Layout;
use ipc_core::segment::{Segment, SegmentError};
use ipc_ring::Ring as _;
use ipc_ring::role::Holder;
use ipc_ring::spsc::Ring;
use serde_json::json;

use crate::ended::Ended;
use crate::show;
use crate::signals::Signals;

/// Bytes that a chunk carries: all but one cache line of a page, so that data keeps its alignment to cache lines on its
/// way. Copies whose ends differ by a few bytes take many times as long on some processors.
pub(crate) const CARRIES: usize = 4032;

/// Chunks in the ring, and chunks that are moved at once.
const CAPACITY: usize = 256;
pub(crate) const BATCH: usize = 64;

/// How long a side waits before it looks around.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// A piece of the stream.
#[derive(Clone, Copy, Layout, Pod, Zeroable)]
#[repr(C, align(64))]
#[layout(name = "ipc.Chunk")]
pub(crate) struct Chunk {
    pub(crate) data: [u8; CARRIES],
    /// Bytes of data, from the start.
    pub(crate) len: u32,
    /// One in the last chunk of a stream, whose producer has come to the end of its input.
    pub(crate) is_last: u32,
    pub(crate) reserved: [u8; 56],
}

/// What a chunk carries, and whether it is the last: of one that somebody looks at. `None` if what it says of itself makes no
/// sense.
pub(crate) fn carried(chunk: &[u8]) -> Option<(&[u8], bool)> {
    let word = |at: usize| {
        let bytes = chunk.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let len = word(offset_of!(Chunk, len))? as usize;
    let is_last = word(offset_of!(Chunk, is_last))? != 0;
    let data = chunk.get(..CARRIES)?.get(..len)?;
    Some((data, is_last))
}

/// Where a stream is, and how patient its user.
#[derive(Debug, Args)]
pub(crate) struct Stream {
    /// The name of the stream, the same on both sides
    name: String,

    /// Give up when the other side has not moved for so long [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,

    /// Tell how much went through, and how fast, as one JSON object on standard error
    #[arg(long)]
    json: bool,
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|s| (0.001..=1e9).contains(s));
    let seconds = seconds.ok_or_else(|| "a number of 0.001 or more".to_owned())?;
    Ok(Duration::from_secs_f64(seconds))
}

/// The two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Producer,
    Consumer,
}

/// A stream that one side has opened.
pub(crate) struct Open<'a> {
    stream: &'a Stream,
    side: Side,
    pub(crate) ring: Ring<Chunk>,
    signals: Signals,
    progress: ProgressBar,
    /// When the first byte moved.
    began: Option<Instant>,
    moved_at: Instant,
    pub(crate) bytes: u64,
}

impl Stream {
    /// Opens it for one side; creates it if the other one has not come yet.
    pub(crate) fn open(&self, side: Side, input_len: Option<u64>) -> Result<Open<'_>> {
        let signals = Signals::catch()?;
        let ring = Ring::options()
            .capacity(CAPACITY)
            .open_or_create(&self.name)
            .with_context(|| format!("cannot open the stream {:?}", self.name))?;
        Ok(Open {
            stream: self,
            side,
            ring,
            signals,
            progress: progress(input_len),
            began: None,
            moved_at: Instant::now(),
            bytes: 0,
        })
    }
}

impl Open<'_> {
    /// Refuses a stream that others have left in the middle. To be called with the role, so that nobody is at it.
    pub(crate) fn must_be_fresh(&self) -> Result<()> {
        let name = &self.stream.name;
        let (published, committed) = (self.ring.published(), self.ring.committed());
        let what = match self.side {
            Side::Producer if self.ring.is_closed() => {
                "an earlier producer has finished it, and its consumer has not taken it to the end"
            }
            Side::Producer if published > 0 => "its producer ended in the middle of it",
            Side::Consumer if committed > 0 => "its consumer ended in the middle of it",
            _ => return Ok(()),
        };
        bail!(
            "the stream {name:?} is an old one: {what} ({committed} of {published} chunks were taken); remove what is left \
             of it with `ipc rm {}`",
            show::quoted(name)
        )
    }

    /// Counts bytes that have moved.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.moved_at = Instant::now();
        self.began.get_or_insert(self.moved_at);
        self.bytes += bytes as u64;
        self.progress.set_position(self.bytes);
    }

    /// Counts the time without a move from now on.
    pub(crate) fn begin_to_wait(&mut self) {
        self.moved_at = Instant::now();
    }

    /// Whether to wait on for the other side: everything that [`look_around`](Self::look_around) finds, and the end of the
    /// user's patience.
    pub(crate) fn wait_on(&self) -> Result<()> {
        self.look_around()?;
        match self.stream.timeout {
            Some(timeout) if self.moved_at.elapsed() > timeout => {
                let name = &self.stream.name;
                bail!(Ended::TimedOut(format!(
                    "the other side of {name:?} has not moved for {timeout:?}"
                )))
            }
            _ => Ok(()),
        }
    }

    /// An error after a signal, when the other side has gone, and when the name was removed.
    pub(crate) fn look_around(&self) -> Result<()> {
        self.signals.check()?;
        let name = &self.stream.name;
        let (peer, role) = match self.side {
            Side::Producer => (
                "consumer",
                Ring::consumer_role as fn(&Ring<Chunk>) -> Holder,
            ),
            Side::Consumer => (
                "producer",
                Ring::producer_role as fn(&Ring<Chunk>) -> Holder,
            ),
        };
        if let Holder::Present(holder) = role(&self.ring) {
            // The role of a dead one is free once somebody has cleared up after it.
            self.ring.segment().recover(holder);
        }
        match role(&self.ring) {
            Holder::Died => bail!(Ended::PeerDead(format!("the {peer} of {name:?} has died"))),
            Holder::Left => bail!(Ended::PeerDead(format!(
                "the {peer} of {name:?} stopped before the end"
            ))),
            _ => {}
        }
        if let Err(SegmentError::Replaced) = self.ring.segment().check() {
            bail!(Ended::PeerDead(format!("somebody has removed {name:?}")));
        }
        Ok(())
    }

    /// An error after a signal.
    pub(crate) fn check_signals(&self) -> Result<()> {
        Ok(self.signals.check()?)
    }

    /// The other side has closed the ring before the end.
    pub(crate) fn closed(&self) -> anyhow::Error {
        let (name, bytes) = (&self.stream.name, self.bytes);
        Ended::PeerDead(match self.side {
            Side::Producer => format!("the consumer of {name:?} stopped before the end"),
            Side::Consumer => format!(
                "the producer of {name:?} stopped before the end of its input; {bytes} bytes had arrived"
            ),
        })
        .into()
    }

    /// Removes the segment, unless somebody has done so, and perhaps made another in its place: when one side is
    /// interrupted, both remove it.
    pub(crate) fn remove(&self) -> Result<()> {
        if self.ring.segment().check().is_err() {
            return Ok(());
        }
        match Segment::unlink(&self.stream.name) {
            Ok(()) | Err(SegmentError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells on standard error how fast it went.
    pub(crate) fn tell_rate(&self) {
        self.progress.finish_and_clear();
        let seconds = self
            .began
            .map_or(0.0, |began| began.elapsed().as_secs_f64());
        let rate = self.bytes as f64 / seconds.max(1e-6) / (1 << 30) as f64;
        if self.stream.json {
            let object = json!({
                "schema_version": 1,
                "bytes": self.bytes,
                "seconds": seconds,
                "gib_per_second": rate,
            });
            crate::say(format_args!("{object}"));
            return;
        }
        crate::say(format_args!(
            "ipc: {}: {} in {seconds:.3} s, {rate:.2} GiB/s",
            self.stream.name,
            BinaryBytes(self.bytes)
        ));
    }
}

/// A line that shows how it goes, if standard error is a terminal.
fn progress(len: Option<u64>) -> ProgressBar {
    let line = "{binary_bytes} {binary_bytes_per_sec}";
    let (bar, template) = match len {
        Some(len) => (
            ProgressBar::new(len),
            format!("{{bar:40}} {line} of {{binary_total_bytes}}"),
        ),
        None => (ProgressBar::new_spinner(), format!("{{spinner}} {line}")),
    };
    let style = ProgressStyle::with_template(&template);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

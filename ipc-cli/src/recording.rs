//! The file of a recording: what `ipc record` writes and `ipc replay` reads.
//!
//! One line of JSON that says what was recorded, then the messages as they came:
//!
//! ```text
//! nanoseconds since the start, 8 bytes | length, 4 bytes | lane, 4 bytes | payload
//! ```
//!
//! Numbers are little-endian. A file that ends in the middle of a message was cut off there: its recorder was killed.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};

use anyhow::{Context, Result, bail, ensure};
use ipc_core::segment::{Entry, ObjectSpec};
use serde::{Deserialize, Serialize};

/// The version of the file.
const VERSION: u32 = 1;

/// The longest first line that is read, and the longest message: a file may hold anything.
const MAX_HEAD: u64 = 1 << 20;
const MAX_LEN: u32 = 1 << 30;

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Tells that this is a recording, and of which version.
    ipc_recording: u32,
    pub(crate) object: String,
    /// The tag of the kind.
    pub(crate) kind: [u8; 8],
    pub(crate) version: u32,
    pub(crate) parameters: [u64; 2],
    /// Bytes of the object.
    pub(crate) len: usize,
    /// The layout of a message.
    pub(crate) schema: String,
}

impl Head {
    pub(crate) fn of(entry: &Entry) -> Self {
        Self {
            ipc_recording: VERSION,
            object: entry.name.clone(),
            kind: entry.kind,
            version: entry.version,
            parameters: entry.parameters,
            len: entry.len as usize,
            schema: entry.schema.clone(),
        }
    }

    /// An object like the one that was recorded.
    pub(crate) fn spec(&self) -> ObjectSpec {
        ObjectSpec {
            kind: self.kind,
            version: self.version,
            len: self.len,
            schema: self.schema.clone(),
            parameters: self.parameters,
        }
    }
}

/// Writes a recording.
pub(crate) struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(mut out: W, head: &Head) -> Result<Self> {
        let line = serde_json::to_string(head)?;
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
        Ok(Self { out })
    }

    pub(crate) fn message(&mut self, at: u64, lane: u32, payload: &[u8]) -> Result<()> {
        let len = u32::try_from(payload.len())
            .ok()
            .filter(|len| *len <= MAX_LEN);
        let len = len.context("a message is too long to be recorded")?;
        self.out.write_all(&at.to_le_bytes())?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(&lane.to_le_bytes())?;
        Ok(self.out.write_all(payload)?)
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }
}

/// A message of a recording.
#[derive(Debug)]
pub(crate) struct Message {
    /// Nanoseconds since the start.
    pub(crate) at: u64,
    pub(crate) payload: Vec<u8>,
}

/// Reads a recording.
pub(crate) struct Reader<R> {
    from: BufReader<R>,
    /// The file ended in the middle of a message.
    pub(crate) is_cut: bool,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(from: R) -> Result<(Self, Head)> {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        (&mut from).take(MAX_HEAD).read_until(b'\n', &mut line)?;
        let head: Head = serde_json::from_slice(&line)
            .ok()
            .context("it is no recording: the first line does not say what was recorded")?;
        ensure!(
            head.ipc_recording == VERSION,
            "it is a recording of version {}, and this program knows version {VERSION}",
            head.ipc_recording
        );
        Ok((
            Self {
                from,
                is_cut: false,
            },
            head,
        ))
    }

    /// The next message; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Message>> {
        let mut frame = [0; 16];
        let count = fill(&mut self.from, &mut frame)?;
        if count < frame.len() {
            self.is_cut |= count > 0;
            return Ok(None);
        }
        let word = |at: usize| {
            u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
        };
        let at = u64::from(word(4)) << 32 | u64::from(word(0));
        let len = word(8);
        if len > MAX_LEN {
            bail!("the recording is damaged: a message of {len} bytes");
        }
        let mut payload = Vec::new();
        // Grows with what is there, not with what the length says.
        (&mut self.from)
            .take(len.into())
            .read_to_end(&mut payload)?;
        if payload.len() < len as usize {
            self.is_cut = true;
            return Ok(None);
        }
        Ok(Some(Message { at, payload }))
    }
}

/// Reads as many bytes as there are and fit in.
fn fill(from: &mut impl Read, into: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match from.read(&mut into[done..]) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

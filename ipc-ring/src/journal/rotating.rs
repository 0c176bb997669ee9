//! A journal of any length: a directory of files of the same size, to which one is added when the newest is full.
//!
//! ```
//! use ipc_ring::journal::rotating::RotatingJournal;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let parent = tempfile::tempdir()?;
//! # let path = parent.path().join("orders");
//! let journal = RotatingJournal::open_or_create(path, 1 << 16)?;
//! let mut reader = journal.reader_from(0)?;
//! let mut record = Vec::new();
//! for number in 0..10_000_u32 {
//!     let at = journal.append(&number.to_ne_bytes())?;
//!     assert_eq!(reader.try_read(&mut record)?, Some(at));
//! }
//! // What lies in whole files before the position is removed; a reader goes on from where it is.
//! let start = journal.trim(reader.position())?;
//! assert!(start > 0 && start <= reader.position());
//! # Ok(()) }
//! ```
//!
//! Each file is a [`Journal`], which is appended to once and not trimmed. All that is promised of a journal is promised of all
//! of them as one: one order, one line of positions, nothing lost that was synced. [`Journal`] is the simpler one where the
//! space for what is not trimmed yet has a limit: it needs no further file, and so no disk space and no directory, ever.
//!
//! # Protocol
//!
//! ```text
//! PATH/head            the lock and the event of the journal, and the size of its files
//! PATH/000000000000    positions from 0 on; file n has those from n x capacity on
//!
//! append   to the newest file; once its last place is claimed, nothing is ever appended to it again:  rotate
//! rotate   sync the whole file;  under the lock: make the next one, complete before it has its name;  sync the directory
//! trim(p)  sync(p);  under the lock: remove what ends before p, the oldest first, the newest never;  sync the directory
//! ```
//!
//! So a file that is there after a power cut proves that all files before it are whole, and only the newest can have a torn tail.
//! A trim that was cut may leave a file behind a gap: the journal begins behind the last gap, and the next trim removes the
//! rest. Numbers are never used again, since the newest file stays.
//!
//! # When a participant dies
//!
//! As for a [`Journal`]. The lock is the kernel's; a file that was named by the dead is found by the next one, who syncs its
//! name before it uses it. A file that had no name yet is gone with its maker.
//!
//! # When the disk is full
//!
//! Rotating fails, with the error of the system, and `append` with it; everything else works, and `append` does again when
//! there is room: after a trim, say.

use std::cell::Cell;
use std::fs::{DirBuilder, File, read_dir};
use std::io;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ipc_core::Mapped;
use ipc_core::event::{Event, Wait, Waiters, wait_any};
use ipc_core::memory::{Area, LockByte, Memory, OutOfArea};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::{Entry, Kind, ObjectSpec, Segment, SegmentError, SegmentOptions};

use super::protocol::Log;
use super::protocol::chain::{Chain, Cursor, Files};
use super::{Journal, JournalError, PATIENCE};

/// The name of the file of the lock, and of the object in it.
pub const HEAD: &str = "head";

/// How the head is told from other objects. Nothing needs clearing up.
pub const KIND: Kind = Kind {
    tag: *b"rotation",
    version: VERSION,
    recover,
};

/// The version of what `docs/layout.md` draws for this kind.
pub const VERSION: u32 = 1;

fn recover(_: &Area<Mapped>, _: &Entry, _: ParticipantId) -> Result<(), OutOfArea> {
    Ok(())
}

/// The files in a directory.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    capacity: usize,
    head: Segment,
}

impl Directory {
    fn file(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:012}"))
    }
}

impl Files for Directory {
    type Memory = Mapped;
    type File = Journal;

    fn numbers(&self) -> Result<Vec<u64>, JournalError> {
        let failed = |error| self.failed("list", error);
        let mut numbers = Vec::new();
        for entry in read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_str().unwrap_or_default();
            let number = name.parse().ok();
            numbers.extend(number.filter(|number| self.file(*number).ends_with(name)));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn open(&self, number: u64) -> Result<Option<Journal>, JournalError> {
        match Journal::open(self.file(number)) {
            Ok(file) => Ok(Some(file)),
            Err(JournalError::Segment(SegmentError::NotFound { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, number: u64) -> Result<Journal, JournalError> {
        Journal::create(self.file(number), self.capacity)
    }

    fn remove(&self, number: u64) -> Result<(), JournalError> {
        match Segment::unlink(self.file(number)) {
            Ok(()) | Err(SegmentError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.head.sync_name().map_err(io::Error::other)
    }

    fn log<'f>(&self, file: &'f Journal) -> (&'f Log<Mapped>, ParticipantId) {
        (&file.log, file.me)
    }

    fn recover(&self, file: &Journal, dead: ParticipantId) {
        file.bury(dead);
    }
}

impl Directory {
    fn failed(&self, what: &str, error: io::Error) -> JournalError {
        let what = format!("{what} {}", self.path.display());
        SegmentError::Io { what, error }.into()
    }
}

/// An attached journal in several files. May be shared between threads; clones share the attachment.
#[derive(Clone, Debug)]
pub struct RotatingJournal {
    head: Segment,
    chain: Arc<Chain<Directory>>,
}

impl RotatingJournal {
    /// Opens the journal in a directory, or creates both with files of `capacity` bytes of records each, headers included.
    /// One that exists keeps its capacity.
    ///
    /// # Errors
    ///
    /// As [`Journal::open_or_create`].
    pub fn open_or_create(
        directory: impl Into<PathBuf>,
        capacity: usize,
    ) -> Result<Self, JournalError> {
        let path = directory.into();
        // What is wrong with the capacity is told before anything is made.
        let parameters = Journal::spec(capacity, super::PARTICIPANTS, true)?.parameters;
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                let what = format!("make the directory {}", path.display());
                return Err(SegmentError::Io { what, error }.into());
            }
            _ => {}
        }
        // Also if it was there: whoever made it may have been killed before it came to this.
        sync_parent(&path);
        let spec = ObjectSpec {
            kind: KIND.tag,
            version: VERSION,
            len: 64,
            schema: String::new(),
            parameters,
        };
        let options = SegmentOptions::new().object(HEAD, spec);
        Self::attach(options.open_or_create(path.join(HEAD))?, path)
    }

    /// Opens the journal in a directory.
    ///
    /// # Errors
    ///
    /// As [`Journal::open`].
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, JournalError> {
        let path = directory.into();
        Self::attach(Segment::open(path.join(HEAD))?, path)
    }

    fn attach(head: Segment, path: PathBuf) -> Result<Self, JournalError> {
        let object = head.object(HEAD)?;
        object.expect(KIND.tag, VERSION, "")?;
        let [capacity, _] = object.entry().parameters;
        let event = Event::new(object.area(), 0, Waiters::Many)?;
        let lock = LockByte::Object(object.entry().offset / 64);
        let files = Directory {
            path,
            capacity: usize::try_from(capacity).map_err(|_| JournalError::Damaged)?,
            head: head.clone(),
        };
        let chain = Arc::new(Chain::open(files, capacity, event, lock)?);
        Ok(Self { head, chain })
    }

    /// The journal for the calling process, a forked child of the one that opened it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn rejoin(&self) -> Result<Self, JournalError> {
        Self::open(self.directory())
    }

    /// The directory that the files are in.
    pub fn directory(&self) -> &Path {
        self.head
            .path()
            .and_then(Path::parent)
            .unwrap_or(Path::new(""))
    }

    /// Appends a record and gives where it lies: its position, and where the next one begins. Readers see it at once; it
    /// survives a power cut when [`sync`](Self::sync) up to the end of the range has returned. Waits for the disk once a file.
    ///
    /// # Errors
    ///
    /// As [`Journal::append`], except `Full`; and those of making a file, after which it may be called again.
    pub fn append(&self, record: &[u8]) -> Result<Range<u64>, JournalError> {
        self.here()?;
        self.chain.append(record)
    }

    /// Returns when every record before the position `up_to` is on disk, as [`Journal::sync`].
    ///
    /// # Errors
    ///
    /// As [`Journal::sync`].
    pub fn sync(&self, up_to: u64) -> Result<(), JournalError> {
        self.here()?;
        self.chain.sync(up_to, PATIENCE)
    }

    /// Removes the files that hold only what lies before `up_to`, after that was synced. Gives where the journal begins now.
    /// Readers that are behind are told `Trimmed`, unless they are in the file that they have open. Waits as
    /// [`sync`](Self::sync) does, for those who rotate or trim, and for the disk.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync), and those of removing a file.
    pub fn trim(&self, up_to: u64) -> Result<u64, JournalError> {
        self.here()?;
        self.chain.trim(up_to, PATIENCE)
    }

    /// Everything before this position is on disk.
    ///
    /// # Errors
    ///
    /// Those of opening a file that others have made meanwhile.
    pub fn durable_position(&self) -> Result<u64, JournalError> {
        self.here()?;
        self.chain.durable()
    }

    /// The oldest position that can be read.
    ///
    /// # Errors
    ///
    /// Those of listing the directory.
    pub fn start(&self) -> Result<u64, JournalError> {
        self.here()?;
        self.chain.start()
    }

    /// Where the next record will begin; roughly, while others append.
    ///
    /// # Errors
    ///
    /// As [`durable_position`](Self::durable_position).
    pub fn end(&self) -> Result<u64, JournalError> {
        self.here()?;
        self.chain.end()
    }

    /// How many bytes of records fit in a file, as [`Journal::capacity`].
    pub fn capacity(&self) -> u64 {
        self.chain.capacity()
    }

    /// A reader of the records from `position` on: [`start`](Self::start), [`end`](Self::end), or where a reader has been.
    ///
    /// # Errors
    ///
    /// As [`Journal::reader_from`].
    pub fn reader_from(&self, position: u64) -> Result<RotatingReader, JournalError> {
        self.here()?;
        let cursor = self.chain.cursor(position)?;
        Ok(RotatingReader {
            journal: self.clone(),
            cursor,
            durable_only: false,
        })
    }

    fn here(&self) -> Result<(), JournalError> {
        if self.head.is_here() {
            Ok(())
        } else {
            Err(JournalError::Forked)
        }
    }
}

/// Waits until the name of a directory is on disk. Where that cannot be asked for, there is nothing to do about it.
fn sync_parent(path: &Path) {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let parent = File::open(parent.unwrap_or(Path::new(".")));
    let _ = parent.and_then(|parent| parent.sync_all());
}

/// Reads records in their order, from file to file. Holds nothing in the journal but the file that it is in.
#[derive(Clone, Debug)]
pub struct RotatingReader {
    journal: RotatingJournal,
    cursor: Cursor<Directory>,
    durable_only: bool,
}

impl RotatingReader {
    /// The same reader, which sees only what is on disk and so never what a power cut takes back.
    #[must_use]
    pub fn durable_only(mut self) -> Self {
        self.durable_only = true;
        self
    }

    /// Where the next record is looked for; to be noted, and given to [`RotatingJournal::reader_from`] later.
    pub fn position(&self) -> u64 {
        self.cursor.position
    }

    /// Goes on at another position, such as that of [`JournalError::Trimmed`].
    pub fn seek(&mut self, position: u64) {
        self.cursor.position = position;
    }

    /// Copies the next record into `into`, whose contents are replaced, and gives where it lies; nothing if there is none yet.
    ///
    /// # Errors
    ///
    /// As [`Reader::try_read`](super::Reader::try_read), and those of opening the next file.
    pub fn try_read(&mut self, into: &mut Vec<u8>) -> Result<Option<Range<u64>>, JournalError> {
        self.journal.here()?;
        self.journal
            .chain
            .read(&mut self.cursor, into, self.durable_only)
    }

    /// As [`try_read`](Self::try_read), and waits until the deadline for a record; clears up after a dead appender that
    /// holds it up.
    ///
    /// # Errors
    ///
    /// As [`try_read`](Self::try_read), but for `Pending`.
    pub fn read_until(
        &mut self,
        into: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<Option<Range<u64>>, JournalError> {
        match self.try_read(into) {
            Ok(None) | Err(JournalError::Pending(_)) => {}
            other => return other,
        }
        let chain = self.journal.chain.clone();
        loop {
            // The events of the file that the reader is in now: the wait is over when it comes to another one.
            let here = self.cursor.clone();
            let durable_only = self.durable_only;
            let holder = Cell::new(None);
            let attempt = || {
                holder.set(None);
                let read = match self.try_read(into) {
                    Err(JournalError::Pending(owner)) => {
                        holder.set(Some(owner));
                        None
                    }
                    other => other?,
                };
                let over = read.is_some() || !self.cursor.is_in_the_file_of(&here);
                Ok(over.then_some(read))
            };
            let ask = || {
                let holder = holder.get().into_iter();
                holder.for_each(|dead| chain.recover(&here, dead));
                Ok::<_, JournalError>(())
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let waited = chain.with_events(&here, durable_only, |events| {
                let deadline = events[0].memory().now().saturating_add(left);
                wait_any(events, Wait::default(), Some(deadline), attempt, ask)
            })?;
            match waited.got {
                Some(None) => {}
                read => return Ok(read.flatten()),
            }
        }
    }
}

//! A journal: records that any number of processes append to a file, and that survive a power cut once synced.
//!
//! A fixed amount of space is used in turn: what is no longer needed is trimmed. (One that grows, file by file, is a
//! [`RotatingJournal`](rotating::RotatingJournal).) Readers follow by loads alone, live or
//! behind, and go on later from a position that they have noted.
//!
//! ```
//! use ipc_ring::journal::Journal;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("orders");
//! let journal = Journal::open_or_create(path.as_path(), 1 << 20)?;
//! let at = journal.append(b"an order")?;
//! // Many who do this at the same time share one msync.
//! journal.sync(at.end)?;
//!
//! let mut reader = journal.reader_from(journal.start())?;
//! let mut record = Vec::new();
//! assert_eq!(reader.try_read(&mut record)?, Some(at));
//! assert_eq!(record, b"an order");
//! # Ok(()) }
//! ```
//!
//! # Protocol
//!
//! Records follow each other without a gap; each begins with a word that names its lap, its extent, what is going on, and in
//! whose hands it is.
//!
//! ```text
//! word      FREE(lap) -> WRITING(lap, extent, appender) -> FULL(lap, extent)
//!                                                       -> SKIP(lap, extent)    the appender died; the rest before the seam
//! tail      every place before it is claimed; rises only. The words are what counts
//! durable   every record before it is whole and on disk
//! start     everything before it was trimmed
//! prepared  places before it + capacity are free for their lap
//! mark      two slots on disk: records are looked for from there after a power cut
//!
//! append    walk from tail to the first FREE;  FREE -> WRITING(me)            claims, by compare-exchange
//!           write checksum and payload;        WRITING -> FULL                publishes
//! sync(p)   wait until every place before p is FULL or SKIP;  wait until durable >= p, or take the lock, and under it:
//!           end := the first place that is neither;  msync durable .. end;  durable := end
//! trim(p)   sync(p);  under the lock: mark := p, synced;  start := p;  every unit of the freed space := FREE(next lap);
//!           prepared := p
//! ```
//!
//! Every unit of 64 bytes begins with a word, which says of free space that it is free, and for which lap. So a claim is one
//! compare-exchange wherever the record before it ends. Payload lies beside the words and never in them: an appender that
//! has slept through a lap finds the word of another lap there, and cannot claim in the middle of another's record, whatever
//! that holds. (Laps have 24 bits.) Whoever takes the lock syncs for all whose records are whole by then; they wait for it
//! on an event.
//!
//! # After a power cut
//!
//! The file holds, of each page, what the kernel happened to write back. Whoever attaches first asks whether the memory was
//! continuous, as [`ids`](ipc_core::ids::protocol) do: somebody is present, or the run of the machine and of the mount is that
//! of the last time. If not, records are read from the mark on as long as they are whole. There the journal ends; all
//! behind it is made free and synced before anything else is appended, lest a whole record behind a torn one turn up again
//! later. Doing so again changes nothing, so it may itself be cut.
//!
//! The mount is another one in each mount namespace, too, where nothing was lost. So in the same run of the machine the claims
//! of the dead do not end the journal, but become skipped places, if the memory is of one piece: all claimed places follow
//! each other, and all behind them is free. In a file that was adopted as the successor of another one they end it always, since
//! a copy of a file in use is torn.
//!
//! # When a participant dies
//!
//! An appender killed before it published: its place is skipped, by whoever waits for it. One killed after that has
//! appended a record and cannot say so. The lock is the kernel's; a trim that was cut short is finished by the next one.
//!
//! # Delivery
//!
//! A reader sees every record whose append has returned, in one order for all, and nothing twice. A reader may see a record that
//! is not durable yet, which a power cut then takes back; one that must not asks for [`Reader::durable_only`].
//!
//! Sources: the log of ARIES for the mark and the torn tail, group commit of any database. The owner in the word and free
//! space that names its lap are ours.

mod error;
pub mod protocol;
mod record;
pub mod rotating;

use std::ops::Range;
use std::time::{Duration, Instant};

use ipc_core::Mapped;
use ipc_core::event::{Wait, wait_until};
use ipc_core::memory::{Area, Memory, OutOfArea};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::{
    Entry, Kind, Object, ObjectSpec, Place, Segment, SegmentError, SegmentOptions,
};

pub use error::JournalError;
use protocol::Log;

/// The name of the journal in a segment that holds nothing else.
pub const ONLY: &str = "journal";

/// How journals are told from other objects, and cleared up after the dead.
pub const KIND: Kind = Kind {
    tag: *b"journal\0",
    version: VERSION,
    recover,
};

/// The version of what `docs/layout.md` draws for this kind.
pub const VERSION: u32 = 2;

/// Places for attached processes.
const PARTICIPANTS: u16 = 64;

/// How long to wait for others, unless told.
const PATIENCE: Duration = Duration::from_secs(60);

fn recover(area: &Area<Mapped>, entry: &Entry, dead: ParticipantId) -> Result<(), OutOfArea> {
    log(area, entry)?.recover(dead);
    Ok(())
}

/// The journal in an object whose parameters are the capacity and `participants << 1 | persistent`.
fn log(area: &Area<Mapped>, entry: &Entry) -> Result<Log<Mapped>, OutOfArea> {
    let [capacity, rest] = entry.parameters;
    let lock = entry.offset / 64;
    // More than there can be do not fit, and are refused as such.
    let participants = u16::try_from(rest >> 1).unwrap_or(u16::MAX);
    let needed = Log::<Mapped>::size(capacity, participants);
    let misfit = OutOfArea {
        at: 0,
        len: needed.unwrap_or(usize::MAX),
        align: 1,
        area: area.len(),
    };
    needed
        .filter(|needed| *needed <= area.len())
        .ok_or(misfit)?;
    Log::new(area, capacity, participants, lock, rest & 1 != 0)
}

/// An attached journal. May be shared between threads; clones share the attachment.
#[derive(Clone, Debug)]
pub struct Journal {
    object: Object,
    log: Log<Mapped>,
    me: ParticipantId,
}

impl Journal {
    /// What an object for a journal of `capacity` bytes needs, headers of records included. `persistent` if it lies in a file
    /// that is to outlive the machine's run. `participants` is that of the segment.
    ///
    /// # Errors
    ///
    /// If the capacity is no power of two from 4096 on.
    pub fn spec(
        capacity: usize,
        participants: u16,
        persistent: bool,
    ) -> Result<ObjectSpec, SegmentError> {
        let bytes = capacity as u64;
        let len = Log::<Mapped>::size(bytes, participants)
            .filter(|_| capacity.is_power_of_two() && capacity >= 4096);
        let len = len.ok_or_else(|| {
            SegmentError::Object(format!(
                "the capacity of a journal is a power of two from 4096 bytes on, not {capacity}"
            ))
        })?;
        Ok(ObjectSpec {
            kind: KIND.tag,
            version: VERSION,
            len,
            schema: String::new(),
            parameters: [bytes, u64::from(participants) << 1 | u64::from(persistent)],
        })
    }

    /// Creates a journal in a segment of its own. It survives a power cut if that has a name or a path on a disk.
    ///
    /// # Errors
    ///
    /// As [`spec`](Self::spec) and [`SegmentOptions::create`].
    pub fn create(place: impl Into<Place>, capacity: usize) -> Result<Self, JournalError> {
        let place = place.into();
        Self::in_segment(&Self::options(&place, capacity)?.create(place)?, ONLY)
    }

    /// Opens a journal that exists.
    ///
    /// # Errors
    ///
    /// As [`Segment::open`], and [`JournalError::Damaged`].
    pub fn open(place: impl Into<Place>) -> Result<Self, JournalError> {
        Self::in_segment(&Segment::open(place)?, ONLY)
    }

    /// Opens a journal, or creates it if there is none. One that exists keeps its capacity.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create) and [`open`](Self::open).
    pub fn open_or_create(place: impl Into<Place>, capacity: usize) -> Result<Self, JournalError> {
        let place = place.into();
        let options = Self::options(&place, capacity)?;
        Self::in_segment(&options.open_or_create(place)?, ONLY)
    }

    fn options(place: &Place, capacity: usize) -> Result<SegmentOptions, SegmentError> {
        let persistent = matches!(place, Place::Name(_) | Place::Path(_));
        let spec = Self::spec(capacity, PARTICIPANTS, persistent)?;
        Ok(SegmentOptions::new()
            .participants(PARTICIPANTS)
            .object(ONLY, spec))
    }

    /// The journal of that name among the objects of a segment. After a power cut, cuts off the torn tail.
    ///
    /// # Errors
    ///
    /// If there is none, if it is damaged, or if all places for attached processes are taken.
    pub fn in_segment(segment: &Segment, name: &str) -> Result<Self, JournalError> {
        segment.learn(crate::ring::KINDS);
        let object = segment.object(name)?;
        object.expect(KIND.tag, VERSION, "")?;
        let log = log(object.area(), object.entry())?;
        if !log.is_of_this_run() {
            // Whoever gave the file its name may have been killed before that was on disk.
            segment.sync_name()?;
        }
        let me = segment.participant()?;
        let uuid = u128::from_ne_bytes(segment.header().uuid);
        let adoptions = u64::from(segment.header().adoptions);
        log.attach(me, (uuid ^ uuid >> 64) as u64, adoptions)?;
        Ok(Self { object, log, me })
    }

    /// The journal for the calling process, a forked child of the one that opened it.
    ///
    /// # Errors
    ///
    /// As [`Segment::rejoin`].
    pub fn rejoin(&self) -> Result<Self, JournalError> {
        let segment = self.segment().rejoin()?;
        Self::in_segment(&segment, &self.object.entry().name)
    }

    /// Appends a record and gives where it lies: its position, and where the next one begins. Readers see it at once; it
    /// survives a power cut when [`sync`](Self::sync) up to the end of the range has returned. Never waits.
    ///
    /// # Errors
    ///
    /// [`JournalError::Full`], [`JournalError::TooLong`], and [`JournalError::Failed`] after a failed sync.
    #[inline]
    pub fn append(&self, record: &[u8]) -> Result<Range<u64>, JournalError> {
        self.here()?;
        self.log.append(self.me, record)
    }

    /// Returns when every record before the position `up_to` is on disk. Callers who come while another one's msync is
    /// running share the next one. Waits for those who are still writing records before that position, and skips what
    /// the dead have left; a minute at most.
    ///
    /// # Errors
    ///
    /// [`JournalError::Failed`] if the disk fails, now and at every later call of every process.
    /// [`JournalError::Beyond`] if no record ends there, [`JournalError::TimedOut`].
    pub fn sync(&self, up_to: u64) -> Result<(), JournalError> {
        self.here()?;
        self.log.sync(up_to, PATIENCE, &|dead| self.bury(dead))
    }

    /// Everything before this position is on disk.
    pub fn durable_position(&self) -> u64 {
        self.log.durable()
    }

    /// The oldest position that can be read.
    pub fn start(&self) -> u64 {
        self.log.start()
    }

    /// Where the next record will begin; roughly, while others append.
    pub fn end(&self) -> u64 {
        self.log.end()
    }

    /// How many bytes of records fit in. Each takes a multiple of 64, of which 16 and then 8 in every 64 are not payload.
    pub fn capacity(&self) -> u64 {
        self.log.capacity()
    }

    /// How often records were brought to disk, each time for all who waited for it.
    pub fn syncs(&self) -> u64 {
        self.log.syncs()
    }

    /// Gives up the records before `up_to`, so that their space can be used again; they are synced first. Space is
    /// freed by an eighth of the capacity and more at a time: a call that would free less does nothing. Gives where the
    /// journal begins now. Waits as [`sync`](Self::sync) does, and for the disk once more where it frees something.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync).
    pub fn trim(&self, up_to: u64) -> Result<u64, JournalError> {
        self.here()?;
        self.log.trim(up_to, PATIENCE, &|dead| self.bury(dead))
    }

    /// A reader of the records from `position` on: [`start`](Self::start), [`end`](Self::end), or where a reader has been.
    ///
    /// # Errors
    ///
    /// [`JournalError::Trimmed`], and [`JournalError::Beyond`] if the journal was cut off before it.
    pub fn reader_from(&self, position: u64) -> Result<Reader, JournalError> {
        self.here()?;
        let (start, end) = (self.start(), self.end());
        if position < start {
            return Err(JournalError::Trimmed { start });
        }
        if position > end {
            return Err(JournalError::Beyond { end });
        }
        if position % record::UNIT != 0 {
            return Err(JournalError::Corrupt(position));
        }
        Ok(Reader {
            journal: self.clone(),
            position,
            durable_only: false,
        })
    }

    /// The segment that the journal lies in.
    pub fn segment(&self) -> &Segment {
        self.object.segment()
    }

    fn bury(&self, dead: ParticipantId) {
        self.segment().recover(dead);
    }

    #[inline]
    fn here(&self) -> Result<(), JournalError> {
        if self.segment().is_here() {
            Ok(())
        } else {
            Err(JournalError::Forked)
        }
    }
}

/// Reads records in their order. Holds nothing in the journal: it may be trimmed before the reader comes there.
#[derive(Clone, Debug)]
pub struct Reader {
    journal: Journal,
    position: u64,
    durable_only: bool,
}

impl Reader {
    /// The same reader, which sees only what is on disk and so never what a power cut takes back.
    #[must_use]
    pub fn durable_only(mut self) -> Self {
        self.durable_only = true;
        self
    }

    /// Where the next record is looked for; to be noted, and given to [`Journal::reader_from`] later.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes on at another position, such as that of [`JournalError::Trimmed`].
    pub fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// Copies the next record into `into`, whose contents are replaced, and gives where it lies; nothing if there is none
    /// yet. By loads alone.
    ///
    /// # Errors
    ///
    /// [`JournalError::Pending`] while the next record is being written, [`JournalError::Trimmed`] if the reader was too
    /// slow, [`JournalError::Corrupt`].
    pub fn try_read(&mut self, into: &mut Vec<u8>) -> Result<Option<Range<u64>>, JournalError> {
        self.journal.here()?;
        if self.durable_only && self.position >= self.journal.durable_position() {
            return Ok(None);
        }
        let read = self.journal.log.read(self.position, into)?;
        if let Some(at) = &read {
            if self.durable_only && at.end > self.journal.durable_position() {
                return Ok(None);
            }
            self.position = at.end;
        }
        Ok(read)
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
        let journal = self.journal.clone();
        let event = journal.log.news(self.durable_only);
        let left = deadline.saturating_duration_since(Instant::now());
        let deadline = event.memory().now().saturating_add(left);
        let holder = std::cell::Cell::new(None);
        let attempt = || {
            holder.set(None);
            match self.try_read(into) {
                Err(JournalError::Pending(owner)) => {
                    holder.set(Some(owner));
                    Ok(None)
                }
                other => other,
            }
        };
        let ask = || {
            holder.get().into_iter().for_each(|dead| journal.bury(dead));
            Ok(())
        };
        Ok(wait_until(event, Wait::default(), Some(deadline), attempt, ask)?.got)
    }
}

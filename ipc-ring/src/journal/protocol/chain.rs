//! A journal in several files, whatever they are: the protocol of [`rotating`](crate::journal::rotating), step by step.

use std::ops::{Range, RangeInclusive};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use ipc_core::event::{Event, Wait, wait_until};
use ipc_core::memory::{LockByte, Memory};
use ipc_core::participant::ParticipantId;

use super::Log;
use crate::journal::PATIENCE;
use crate::journal::error::JournalError;
use crate::journal::record::UNIT;

/// How often somebody else may get there first.
const TURNS: u32 = 1000;

/// The files of one journal, and their names. Without this trait, the power could not be cut in the middle of a rotation:
/// the tests lay the files on a disk of their own, names included.
pub trait Files {
    /// What they lie in.
    type Memory: Memory;
    /// An open one, of which this process is a participant.
    type File: Clone;

    /// The numbers that there are names for, in their order.
    ///
    /// # Errors
    ///
    /// What the system says of the directory or the file.
    fn numbers(&self) -> Result<Vec<u64>, JournalError>;

    /// Opens a file; none if there is no such name.
    ///
    /// # Errors
    ///
    /// What the system says of the directory or the file.
    fn open(&self, number: u64) -> Result<Option<Self::File>, JournalError>;

    /// Makes an empty file, which is whole and on disk before it has its name.
    ///
    /// # Errors
    ///
    /// What the system says of the directory or the file.
    fn create(&self, number: u64) -> Result<Self::File, JournalError>;

    /// Takes the name from a file.
    ///
    /// # Errors
    ///
    /// What the system says of the directory or the file.
    fn remove(&self, number: u64) -> Result<(), JournalError>;

    /// Waits until what names there are is on disk.
    ///
    /// # Errors
    ///
    /// What the system says; nothing is durable then.
    fn sync(&self) -> std::io::Result<()>;

    /// The journal in a file, and who we are there.
    fn log<'f>(&self, file: &'f Self::File) -> (&'f Log<Self::Memory>, ParticipantId);

    /// Clears up in a file after a participant, if it is proven dead.
    fn recover(&self, file: &Self::File, dead: ParticipantId);
}

/// A file and its number.
#[derive(Clone, Debug)]
struct Numbered<T> {
    number: u64,
    file: T,
}

/// A journal in several files.
#[derive(Debug)]
pub struct Chain<F: Files> {
    files: F,
    /// That of those who wait for the lock or for the next file.
    rotated: Event<F::Memory>,
    lock: LockByte,
    capacity: u64,
    /// The newest file that we know of.
    newest: RwLock<Numbered<F::File>>,
}

/// Where somebody reads.
#[derive(Debug)]
pub struct Cursor<F: Files> {
    /// Where the next record is looked for.
    pub position: u64,
    file: Option<Numbered<F::File>>,
}

impl<F: Files> Cursor<F> {
    /// Before the first record at or behind a position.
    pub fn new(position: u64) -> Self {
        Self {
            position,
            file: None,
        }
    }

    /// Whether both are in the same file, or in none yet.
    pub(crate) fn is_in_the_file_of(&self, other: &Self) -> bool {
        let number = |cursor: &Self| cursor.file.as_ref().map(|file| file.number);
        number(self) == number(other)
    }
}

impl<F: Files> Clone for Cursor<F> {
    fn clone(&self) -> Self {
        Self {
            position: self.position,
            file: self.file.clone(),
        }
    }
}

impl<F: Files> Chain<F> {
    /// The journal that consists of these files of `capacity` bytes each; makes the first one if there is none. Rotating
    /// and trimming happen under the lock, which those who wait for it sleep on the event for.
    ///
    /// # Errors
    ///
    /// What the system says of the directory, or if its files do not belong together.
    pub fn open(
        files: F,
        capacity: u64,
        rotated: Event<F::Memory>,
        lock: LockByte,
    ) -> Result<Self, JournalError> {
        let newest = locked(&rotated, lock, || {
            let last = numbers(&files, capacity)?.last().copied();
            Self::enter(&files, last, last.unwrap_or(0))
        })?;
        if files.log(&newest.file).0.capacity() != capacity {
            return Err(JournalError::Damaged);
        }
        Ok(Self {
            files,
            rotated,
            lock,
            capacity,
            newest: RwLock::new(newest),
        })
    }

    /// Opens the file `number`, or makes it where `last` says that there is none. Under the lock.
    fn enter(files: &F, last: Option<u64>, number: u64) -> Result<Numbered<F::File>, JournalError> {
        let open = last
            .filter(|last| *last == number)
            .map(|_| files.open(number));
        let file = match open.transpose()?.flatten() {
            Some(file) => file,
            None => files.create(number)?,
        };
        // Also if we did not make it: whoever did may have been killed before it came to this.
        match files.sync() {
            Ok(()) => Ok(Numbered { number, file }),
            Err(error) => Err(files.log(&file).0.fail(error)),
        }
    }

    fn newest(&self) -> RwLockReadGuard<'_, Numbered<F::File>> {
        self.newest.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a record; gives where it lies.
    ///
    /// # Errors
    ///
    /// As [`Log::append`], except that a full file is followed by another; and what the system says of making it.
    pub fn append(&self, record: &[u8]) -> Result<Range<u64>, JournalError> {
        for _ in 0..TURNS {
            let full = {
                let newest = self.newest();
                let (log, me) = self.files.log(&newest.file);
                let base = newest.number * self.capacity;
                match log.append(me, record) {
                    Ok(at) => return Ok(base + at.start..base + at.end),
                    Err(JournalError::Full) => newest.number,
                    Err(error) => return Err(moved(error, base)),
                }
            };
            self.rotate(full)?;
        }
        Err(JournalError::Full)
    }

    /// Goes on to the file behind `full`, to which nothing can be appended any more.
    fn rotate(&self, full: u64) -> Result<(), JournalError> {
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        if newest.number != full {
            return Ok(());
        }
        let log = self.files.log(&newest.file).0;
        let recover = |dead| self.files.recover(&newest.file, dead);
        // Before there is a next one: whoever finds that after a power cut finds this one whole.
        log.sync(self.capacity, PATIENCE, &recover)
            .map_err(|error| moved(error, full * self.capacity))?;
        *newest = locked(&self.rotated, self.lock, || {
            let last = numbers(&self.files, self.capacity)?.last().copied();
            let last = last.filter(|last| *last > full);
            Self::enter(&self.files, last, last.unwrap_or(full + 1))
        })?;
        Ok(())
    }

    /// Finds out whether others have gone on to another file.
    fn catch_up(&self) -> Result<(), JournalError> {
        let known = {
            let newest = self.newest();
            if self.files.log(&newest.file).0.end() < self.capacity {
                return Ok(());
            }
            newest.number
        };
        let last = numbers(&self.files, self.capacity)?.last().copied();
        if last.is_some_and(|last| last > known) {
            // It may be another one by now.
            return self.rotate(known);
        }
        Ok(())
    }

    /// Returns when everything before `up_to` is on disk.
    ///
    /// # Errors
    ///
    /// As [`Log::sync`].
    pub fn sync(&self, up_to: u64, patience: Duration) -> Result<(), JournalError> {
        // A position between two files is the end of the first one.
        let number = up_to.saturating_sub(1) / self.capacity;
        if number > self.newest().number {
            self.catch_up()?;
        }
        let newest = self.newest().clone();
        let base = newest.number * self.capacity;
        let (log, _) = self.files.log(&newest.file);
        if number > newest.number {
            let end = base + log.end();
            return Err(JournalError::Beyond { end });
        }
        log.intact()?;
        if number < newest.number {
            return Ok(());
        }
        let recover = |dead| self.files.recover(&newest.file, dead);
        log.sync(up_to - base, patience, &recover)
            .map_err(|error| moved(error, base))
    }

    /// Everything before is on disk.
    ///
    /// # Errors
    ///
    /// What the system says of the directory.
    pub fn durable(&self) -> Result<u64, JournalError> {
        self.catch_up()?;
        let newest = self.newest();
        let (log, _) = self.files.log(&newest.file);
        Ok(newest.number * self.capacity + log.durable())
    }

    /// Where the next record will begin; roughly, while others append.
    ///
    /// # Errors
    ///
    /// What the system says of the directory.
    pub fn end(&self) -> Result<u64, JournalError> {
        self.catch_up()?;
        let newest = self.newest();
        let (log, _) = self.files.log(&newest.file);
        Ok(newest.number * self.capacity + log.end())
    }

    /// The oldest position that can be read.
    ///
    /// # Errors
    ///
    /// What the system says of the directory.
    pub fn start(&self) -> Result<u64, JournalError> {
        Ok(self.run()?.start() * self.capacity)
    }

    /// The files from the newest down to the first gap. What lies behind a gap was left by a trim that a power cut undid in
    /// part.
    fn run(&self) -> Result<RangeInclusive<u64>, JournalError> {
        let numbers = numbers(&self.files, self.capacity)?;
        let mut run = numbers.into_iter().rev();
        let last = run.next().ok_or(JournalError::Damaged)?;
        let first = run.fold(
            last,
            |first, number| {
                if number + 1 == first { number } else { first }
            },
        );
        Ok(first..=last)
    }

    /// Removes the files that lie before `up_to` as a whole, the newest one never. Gives where the journal begins now.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync), and what the system says of the removal.
    pub fn trim(&self, up_to: u64, patience: Duration) -> Result<u64, JournalError> {
        self.sync(up_to, patience)?;
        locked(&self.rotated, self.lock, || {
            let numbers = numbers(&self.files, self.capacity)?;
            let last = numbers.last().copied().unwrap_or(0);
            let keep = last.min(up_to / self.capacity);
            for number in numbers.into_iter().filter(|number| *number < keep) {
                self.files.remove(number)?;
            }
            // Also if there was none: whoever removed it may have been killed before it came to this.
            self.files
                .sync()
                .map_err(|error| JournalError::Failed(Some(error)))
        })?;
        self.start()
    }

    /// Copies the next record out, and gives where it lies; nothing if there is none yet.
    ///
    /// # Errors
    ///
    /// As [`Log::read`], and what the system says of the next file.
    pub fn read(
        &self,
        cursor: &mut Cursor<F>,
        into: &mut Vec<u8>,
        durable_only: bool,
    ) -> Result<Option<Range<u64>>, JournalError> {
        for _ in 0..TURNS {
            let number = cursor.position / self.capacity;
            if !self.go_to(cursor, number)? {
                return Ok(None);
            }
            let Some(Numbered { file, .. }) = &cursor.file else {
                return Ok(None);
            };
            let (log, base) = (self.files.log(file).0, number * self.capacity);
            // Before the look at what comes next: then that is all.
            let ended = log.end() >= self.capacity;
            if durable_only && cursor.position - base >= log.durable() {
                return Ok(None);
            }
            match log.read(cursor.position - base, into) {
                Ok(Some(at)) if durable_only && at.end > log.durable() => return Ok(None),
                Ok(Some(at)) => {
                    cursor.position = base + at.end;
                    return Ok(Some(base + at.start..base + at.end));
                }
                // What is left of the file was skipped.
                Ok(None) if ended => cursor.position = base + self.capacity,
                Ok(None) => return Ok(None),
                Err(error) => return Err(moved(error, base)),
            }
        }
        Ok(None)
    }

    /// Opens the file that the cursor has come to. False if there is none yet.
    fn go_to(&self, cursor: &mut Cursor<F>, number: u64) -> Result<bool, JournalError> {
        if cursor
            .file
            .as_ref()
            .is_some_and(|file| file.number == number)
        {
            return Ok(true);
        }
        if let Some(file) = self.files.open(number)? {
            cursor.file = Some(Numbered { number, file });
            return Ok(true);
        }
        let run = self.run()?;
        if number < *run.start() {
            let start = run.start() * self.capacity;
            return Err(JournalError::Trimmed { start });
        }
        Ok(false)
    }

    /// A cursor at a position between the start and the end.
    ///
    /// # Errors
    ///
    /// [`JournalError::Trimmed`] or [`JournalError::Beyond`] if it does not lie there, [`JournalError::Corrupt`] if no record can
    /// begin at it.
    pub fn cursor(&self, position: u64) -> Result<Cursor<F>, JournalError> {
        let (start, end) = (self.start()?, self.end()?);
        if position < start {
            return Err(JournalError::Trimmed { start });
        }
        if position > end {
            return Err(JournalError::Beyond { end });
        }
        if position % UNIT != 0 {
            return Err(JournalError::Corrupt(position));
        }
        Ok(Cursor::new(position))
    }

    /// Calls `work` with the events that tell of records behind a cursor, or of records on disk, and of the next file.
    pub(crate) fn with_events<T>(
        &self,
        cursor: &Cursor<F>,
        durable_only: bool,
        work: impl FnOnce(&[&Event<F::Memory>]) -> T,
    ) -> T {
        match &cursor.file {
            Some(Numbered { file, .. }) => {
                work(&[self.files.log(file).0.news(durable_only), &self.rotated])
            }
            None => work(&[&self.rotated]),
        }
    }

    /// Clears up after a participant of the file that the cursor is in.
    pub(crate) fn recover(&self, cursor: &Cursor<F>, dead: ParticipantId) {
        if let Some(Numbered { file, .. }) = &cursor.file {
            self.files.recover(file, dead);
        }
    }

    /// Bytes of records in each file, headers included.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }
}

/// The numbers of the files in their order. A name that is so high that its positions were none is not one of ours.
fn numbers<F: Files>(files: &F, capacity: u64) -> Result<Vec<u64>, JournalError> {
    let mut numbers = files.numbers()?;
    let limit = (1 << 62) / capacity.max(1);
    numbers.retain(|number| *number < limit);
    Ok(numbers)
}

/// Runs `work` under the lock, waiting for it.
fn locked<M: Memory, T>(
    rotated: &Event<M>,
    lock: LockByte,
    work: impl FnOnce() -> Result<T, JournalError>,
) -> Result<T, JournalError> {
    let memory = rotated.memory();
    let deadline = memory.now().saturating_add(PATIENCE);
    let attempt = || Ok::<_, JournalError>(memory.try_lock(lock).then_some(()));
    let waited = wait_until(rotated, Wait::Block, Some(deadline), attempt, || Ok(()))?;
    waited.got.ok_or(JournalError::TimedOut)?;
    let done = work();
    memory.unlock(lock);
    rotated.notify(u32::MAX);
    done
}

/// The error of a file whose first position is `base`, told of the whole journal.
fn moved(error: JournalError, base: u64) -> JournalError {
    match error {
        JournalError::Beyond { end } => JournalError::Beyond { end: base + end },
        JournalError::Trimmed { start } => JournalError::Trimmed {
            start: base + start,
        },
        JournalError::Corrupt(position) => JournalError::Corrupt(base + position),
        other => other,
    }
}

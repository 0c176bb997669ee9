//! The seam as the explorer sees it: every access of the shipped code becomes a question to the scheduler.
//!
//! The code of an actor runs against a script of the replies it has had since its operation began. At the first access
//! beyond the script it is unwound, and that access is what the actor does next. Unwinding uses `resume_unwind`, which
//! does not call the panic hook. Destructors that run meanwhile may touch the memory: from there on every access does
//! nothing and says something harmless.
//!
//! # Safety
//!
//! Nothing here points at memory: offsets are names, and one that lies outside is reported as a violation.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipc_core::event::LONGEST_SLICE;
use ipc_core::memory::{Identity, LockByte, Memory};

/// One access to what actors share: the unit of scheduling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Load of a control word of `size` bytes.
    Load {
        /// Offset.
        at: usize,
        /// 4 or 8.
        size: u8,
    },
    /// Store to a control word.
    Store {
        /// Offset.
        at: usize,
        /// 4 or 8.
        size: u8,
        /// What.
        value: u64,
    },
    /// Compare-and-exchange of a control word.
    Exchange {
        /// Offset.
        at: usize,
        /// 4 or 8.
        size: u8,
        /// Expected.
        old: u64,
        /// Put in its place.
        new: u64,
    },
    /// Addition to a control word.
    Add {
        /// Offset.
        at: usize,
        /// What, wrapping.
        value: u64,
    },
    /// The part of a payload copy out that lies in one aligned cell of 8 bytes.
    Read {
        /// Offset.
        at: usize,
        /// 1 to 8.
        size: u8,
    },
    /// The part of a payload copy in that lies in one aligned cell of 8 bytes.
    Write {
        /// Offset.
        at: usize,
        /// 1 to 8.
        size: u8,
        /// The bytes, the first one lowest.
        value: u64,
    },
    /// Sleep while the word is as expected.
    Sleep {
        /// Offset.
        at: usize,
        /// What the word must be.
        expected: u32,
    },
    /// Wake sleepers on a word.
    Wake {
        /// Offset.
        at: usize,
        /// At most so many.
        count: u32,
    },
    /// Take a lock byte.
    TryLock(LockByte),
    /// Let go of a lock byte.
    Unlock(LockByte),
    /// Ask for a lock byte.
    IsLocked(LockByte),
    /// Ask whether a process has ended; `None` for an identity that no process here has.
    IsGone(Option<usize>),
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load { size, .. } => write!(f, "load{}", u32::from(*size) * 8),
            Self::Store { value, .. } => write!(f, "store {value:#x}"),
            Self::Exchange { old, new, .. } => write!(f, "exchange {old:#x} by {new:#x}"),
            Self::Add { value, .. } => write!(f, "add {value}"),
            Self::Read { size, .. } => write!(f, "read {size} bytes"),
            Self::Write { size, value, .. } => write!(f, "write {size} bytes {value:#x}"),
            Self::Sleep { expected, .. } => write!(f, "sleep while {expected:#x}"),
            Self::Wake { count, .. } => write!(f, "wake {count}"),
            Self::TryLock(byte) => write!(f, "try_lock {byte:?}"),
            Self::Unlock(byte) => write!(f, "unlock {byte:?}"),
            Self::IsLocked(byte) => write!(f, "is_locked {byte:?}"),
            Self::IsGone(Some(process)) => write!(f, "is_gone process {process}"),
            Self::IsGone(None) => write!(f, "is_gone of an identity that nobody has"),
        }
    }
}

impl Access {
    /// The offset it touches, if it touches memory.
    pub fn at(&self) -> Option<usize> {
        match *self {
            Self::Load { at, .. }
            | Self::Store { at, .. }
            | Self::Exchange { at, .. }
            | Self::Add { at, .. }
            | Self::Read { at, .. }
            | Self::Write { at, .. }
            | Self::Sleep { at, .. }
            | Self::Wake { at, .. } => Some(at),
            _ => None,
        }
    }
}

/// What an actor is told about an access: a value, and yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    /// What was loaded, or how many were woken.
    pub value: u64,
    /// Exchanged, locked, held, gone; for a sleep: ended by its timeout.
    pub yes: bool,
}

impl Reply {
    pub(super) const DONE: Self = Self {
        value: 0,
        yes: true,
    };

    pub(super) fn value(value: u64) -> Self {
        Self { value, yes: true }
    }

    pub(super) fn yes(yes: bool) -> Self {
        Self { value: 0, yes }
    }
}

/// How far the code of an actor runs on a given script.
pub(super) enum Outcome<T> {
    /// To its end, having used the whole script.
    Returned(T),
    /// To an access beyond the script.
    Asks(Access),
    /// Into a panic of its own: always a violation.
    Panicked(String),
}

/// Shared memory of the explorer. Single-threaded; clones are the same memory.
#[derive(Clone, Debug)]
pub struct Explored {
    script: Rc<Script>,
}

#[derive(Debug)]
struct Script {
    len: usize,
    fences: bool,
    process: Cell<usize>,
    processes: usize,
    log: RefCell<Vec<Reply>>,
    next: Cell<usize>,
    asked: Cell<Option<Access>>,
    timeouts: Cell<u32>,
}

/// The payload of an unwinding that is none of the actor's doing.
struct Unwound;

/// How far the clock goes on at each sleep that ends by its timeout: more than any slice.
const TICK: Duration = Duration::from_millis(80);
const _: () = assert!(TICK.as_millis() > LONGEST_SLICE.as_millis());

impl Explored {
    /// A memory of `len` bytes for so many processes.
    pub(super) fn new(len: usize, processes: usize, fences: bool) -> Self {
        Self {
            script: Rc::new(Script {
                len,
                fences,
                processes,
                process: Cell::new(0),
                log: RefCell::default(),
                next: Cell::new(0),
                asked: Cell::new(None),
                timeouts: Cell::new(0),
            }),
        }
    }

    /// The process whose code runs.
    pub fn process(&self) -> usize {
        self.script.process.get()
    }

    /// Runs `code` as `process` on the replies in `log`.
    pub(super) fn run<T>(
        &self,
        process: usize,
        log: Vec<Reply>,
        code: impl FnOnce() -> T,
    ) -> Outcome<T> {
        let script = &self.script;
        let len = log.len();
        script.process.set(process);
        script.next.set(0);
        script.asked.set(None);
        script.timeouts.set(0);
        script.log.replace(log);
        match catch_unwind(AssertUnwindSafe(code)) {
            Ok(value) => {
                // Otherwise the code is no function of what it has read, and exploring it would prove nothing.
                assert_eq!(
                    script.next.get(),
                    len,
                    "an actor behaved differently on the same replies"
                );
                Outcome::Returned(value)
            }
            Err(payload) if payload.is::<Unwound>() => {
                Outcome::Asks(script.asked.get().expect("unwound by an access"))
            }
            Err(payload) => Outcome::Panicked(
                payload
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| payload.downcast_ref::<&str>().map(|text| text.to_string()))
                    .unwrap_or_default(),
            ),
        }
    }

    fn ask(&self, access: Access) -> Reply {
        let script = &self.script;
        if script.asked.get().is_some() {
            return Reply {
                value: 0,
                yes: true,
            };
        }
        let at = script.next.get();
        if let Some(reply) = script.log.borrow().get(at) {
            script.next.set(at + 1);
            return *reply;
        }
        script.asked.set(Some(access));
        resume_unwind(Box::new(Unwound));
    }

    /// The pieces of a range by cells of 8 bytes: offset and size.
    fn cells(at: usize, len: usize) -> impl Iterator<Item = (usize, usize)> {
        let end = at + len;
        let mut at = at;
        std::iter::from_fn(move || {
            let size = (8 - at % 8).min(end - at);
            let piece = (at, size);
            at += size;
            (size > 0).then_some(piece)
        })
    }
}

// SAFETY: there is no memory behind the offsets, so every access is valid; `len` is a constant.
unsafe impl Memory for Explored {
    fn len(&self) -> usize {
        self.script.len
    }

    unsafe fn load32(&self, at: usize, _: Ordering) -> u32 {
        self.ask(Access::Load { at, size: 4 }).value as u32
    }

    unsafe fn store32(&self, at: usize, value: u32, _: Ordering) {
        self.ask(Access::Store {
            at,
            size: 4,
            value: value.into(),
        });
    }

    unsafe fn exchange32(&self, at: usize, old: u32, new: u32, _: Ordering) -> Result<u32, u32> {
        let access = Access::Exchange {
            at,
            size: 4,
            old: old.into(),
            new: new.into(),
        };
        let reply = self.ask(access);
        if reply.yes {
            Ok(old)
        } else {
            Err(reply.value as u32)
        }
    }

    unsafe fn load64(&self, at: usize, _: Ordering) -> u64 {
        self.ask(Access::Load { at, size: 8 }).value
    }

    unsafe fn store64(&self, at: usize, value: u64, _: Ordering) {
        self.ask(Access::Store { at, size: 8, value });
    }

    unsafe fn exchange64(&self, at: usize, old: u64, new: u64, _: Ordering) -> Result<u64, u64> {
        let reply = self.ask(Access::Exchange {
            at,
            size: 8,
            old,
            new,
        });
        if reply.yes { Ok(old) } else { Err(reply.value) }
    }

    unsafe fn add64(&self, at: usize, value: u64, _: Ordering) -> u64 {
        self.ask(Access::Add { at, value }).value
    }

    unsafe fn read(&self, at: usize, into: &mut [u8]) {
        let mut rest = into;
        for (at, size) in Self::cells(at, rest.len()) {
            let reply = self.ask(Access::Read {
                at,
                size: size as u8,
            });
            let (piece, after) = rest.split_at_mut(size);
            piece.copy_from_slice(&reply.value.to_le_bytes()[..size]);
            rest = after;
        }
    }

    unsafe fn write(&self, at: usize, from: &[u8]) {
        let mut rest = from;
        for (at, size) in Self::cells(at, rest.len()) {
            let (piece, after) = rest.split_at(size);
            let mut bytes = [0; 8];
            bytes[..size].copy_from_slice(piece);
            let value = u64::from_le_bytes(bytes);
            self.ask(Access::Write {
                at,
                size: size as u8,
                value,
            });
            rest = after;
        }
    }

    fn fence(&self, _: Ordering) {}

    fn fence_everyone(&self) -> bool {
        self.script.fences
    }

    fn takes_part_in_fences(&self) -> bool {
        self.script.fences
    }

    fn pause(&self) {}

    fn now(&self) -> Duration {
        TICK * self.script.timeouts.get()
    }

    unsafe fn sleep(&self, at: usize, expected: u32, _: Duration) {
        if self.ask(Access::Sleep { at, expected }).yes {
            self.script.timeouts.set(self.script.timeouts.get() + 1);
        }
    }

    unsafe fn wake(&self, at: usize, count: u32) -> u32 {
        self.ask(Access::Wake { at, count }).value as u32
    }

    fn try_lock(&self, byte: LockByte) -> bool {
        self.ask(Access::TryLock(byte)).yes
    }

    fn unlock(&self, byte: LockByte) {
        self.ask(Access::Unlock(byte));
    }

    fn is_locked(&self, byte: LockByte) -> bool {
        self.ask(Access::IsLocked(byte)).yes
    }

    fn identity(&self) -> Identity {
        identity(self.process())
    }

    fn is_gone(&self, who: &Identity) -> bool {
        let process = (0..self.script.processes).find(|&process| identity(process) == *who);
        self.ask(Access::IsGone(process)).yes
    }
}

/// Two processes differ in every word of their identity but the namespaces, so that a mixture of two is nobody's.
pub(super) fn identity(process: usize) -> Identity {
    let n = process as u32 + 1;
    Identity {
        pid: n,
        start: 100 + u64::from(n),
        pid_namespace: 1,
        time_namespace: 1,
        boot: 1,
    }
}

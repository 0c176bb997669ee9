//! What each kind of object says of itself, read from the words that `docs/layout.md` draws.
//!
//! Everything is loaded from checked places and bounded by the length of the object: whatever a peer has written there,
//! the worst is a number that makes no sense.

use std::sync::atomic::Ordering::Acquire;

use ipc_core::ReadOnly;
use ipc_core::memory::{Area, OutOfArea};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::{Entry, ObjectView};
use ipc_ring::{broadcast, broadcast_bytes, bytes, journal, mpmc, spsc};
use serde::Serialize;

use super::rings::{self, Ring};

/// Whether this program reads that version of a kind. The second one of rings has seats behind all that the first has, the
/// third one of `mpmc` a mark in free slots. The first one of journals had records of other units.
pub(super) fn is_known(tag: &str, version: u32) -> bool {
    let newest = match tag {
        "journal" => return version == journal::VERSION,
        "spsc" => spsc::VERSION,
        "mpmc" => mpmc::VERSION,
        "bcast" => broadcast::VERSION,
        "bcastbyt" => broadcast_bytes::VERSION,
        "bytes" | "lanes" | "channel" => bytes::VERSION,
        _ => 1,
    };
    (1..=newest).contains(&version)
}

/// The most counters, permits or seats that are looked at.
const MOST: u64 = 16_382;

/// What was seen of one object.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) ring: Option<Ring>,
    pub(super) lock: Option<Lock>,
    pub(super) facts: Vec<(&'static str, String)>,
    /// What is wrong with it, as far as it can be seen.
    pub(super) fault: Option<String>,
    /// The words that processes sleep on.
    pub(super) points: Vec<Point>,
}

impl Seen {
    pub(super) fn ring(ring: Ring, points: Vec<Point>) -> Self {
        Self {
            ring: Some(ring),
            points,
            ..Self::default()
        }
    }
}

/// A word to sleep on.
#[derive(Clone, Debug)]
pub(super) struct Point {
    /// Offset in the object.
    pub(super) at: usize,
    /// What for.
    pub(super) what: &'static str,
    /// On whom that depends.
    pub(super) blockers: Vec<ParticipantId>,
    /// What those are called; there may be none.
    pub(super) called: &'static str,
}

impl Point {
    pub(super) fn new(
        at: usize,
        what: &'static str,
        blockers: Vec<ParticipantId>,
        called: &'static str,
    ) -> Self {
        Self {
            at,
            what,
            blockers,
            called,
        }
    }
}

/// The state of a lock.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Lock {
    pub(crate) holder: Option<u16>,
    /// Who gets it next, whoever else wants it.
    pub(crate) next: Option<u16>,
    pub(crate) waited_for: bool,
    /// A holder died, and nobody has repaired what it left.
    pub(crate) broken: bool,
    /// Ended for good: a poisoned mutex, or a `once` that is done.
    pub(crate) ended: bool,
    /// Of readers and writers: who reads.
    pub(crate) readers: Vec<u16>,
}

pub(super) fn word32(area: &Area<ReadOnly>, at: usize) -> Result<u32, OutOfArea> {
    // ORDERING: Acquire pairs with the Release of whoever published what the word stands for.
    Ok(area.word32(at)?.load(Acquire))
}

pub(super) fn word64(area: &Area<ReadOnly>, at: usize) -> Result<u64, OutOfArea> {
    // ORDERING: Acquire pairs with the Release of whoever published what the word stands for.
    Ok(area.word64(at)?.load(Acquire))
}

/// Whether the word of an event says that somebody may sleep.
pub(super) fn sleeps(event: u32) -> bool {
    event & 1 != 0
}

/// Looks at an object.
pub(super) fn look(object: &ObjectView) -> Seen {
    let (area, entry) = (object.area(), object.entry());
    let tag = crate::show::tag(entry.kind);
    if !is_known(&tag, entry.version) {
        let fault = format!(
            "version {} of the kind {tag:?} is not known to this program; use the release that wrote it",
            entry.version
        );
        return Seen {
            fault: Some(fault),
            ..Seen::default()
        };
    }
    let seen = match &*tag {
        "spsc" => rings::spsc(area, entry),
        "mpmc" => rings::mpmc(area, entry),
        "bcast" => rings::broadcast(area, entry),
        "bcastbyt" => rings::broadcast_bytes(area, entry),
        "bytes" | "lanes" | "channel" => rings::lanes(area, entry),
        "journal" => rings::journal(object),
        "mutex" | "once" => lock(area, 0).map(|(lock, point)| Seen {
            fault: fault_of(&tag, &lock),
            lock: Some(lock),
            points: vec![point],
            ..Seen::default()
        }),
        "rwlock" => rwlock(area, entry),
        "semaphor" => semaphore(area, entry),
        "barrier" => barrier(area, entry),
        "latest" => latest(area),
        "sequence" => sequence(area, entry),
        "ids" => ids(area),
        _ => Ok(Seen::default()),
    };
    seen.unwrap_or_else(|misfit| Seen {
        fault: Some(format!("it is damaged: {misfit}")),
        ..Seen::default()
    })
}

fn lock(area: &Area<ReadOnly>, at: usize) -> Result<(Lock, Point), OutOfArea> {
    const NUMBER: u32 = (1 << 14) - 1;
    let word = word32(area, at)?;
    let id = |number: u32| ParticipantId::new(number.into());
    let holder = id(word & NUMBER);
    let lock = Lock {
        holder: holder.map(ParticipantId::get),
        next: id(word >> 14 & NUMBER).map(ParticipantId::get),
        waited_for: word & 1 << 28 != 0,
        broken: word & 1 << 30 != 0,
        ended: word & 1 << 31 != 0,
        readers: Vec::new(),
    };
    let blockers = holder.into_iter().collect();
    Ok((lock, Point::new(at, "the lock", blockers, "holder")))
}

fn fault_of(tag: &str, lock: &Lock) -> Option<String> {
    match tag {
        "mutex" if lock.ended => Some(
            "it is poisoned for good: a holder died, and the next one did not repair the value; create it anew".into(),
        ),
        "mutex" | "rwlock" if lock.broken => {
            Some("a holder died and left the value half changed; the next one who locks is told".into())
        }
        _ => None,
    }
}

fn rwlock(area: &Area<ReadOnly>, entry: &Entry) -> Result<Seen, OutOfArea> {
    let (mut lock, point) = lock(area, 0)?;
    let mut reading = Vec::new();
    for index in 0..entry.parameters[0].min(MOST) {
        if word32(area, 128 + 64 * index as usize)? != 0 {
            reading.extend(ParticipantId::new(index + 1));
        }
    }
    lock.readers = reading.iter().map(|id| id.get()).collect();
    Ok(Seen {
        fault: fault_of("rwlock", &lock),
        lock: Some(lock),
        points: vec![
            point,
            Point::new(4, "the readers to leave", reading, "reader"),
        ],
        ..Seen::default()
    })
}

fn semaphore(area: &Area<ReadOnly>, entry: &Entry) -> Result<Seen, OutOfArea> {
    let mut holders = Vec::new();
    for permit in 0..entry.parameters[0].min(MOST) {
        let word = word32(area, 128 + 4 * permit as usize)?;
        holders.extend(ParticipantId::new(word.into()));
    }
    let numbers: Vec<String> = holders.iter().map(|id| id.get().to_string()).collect();
    Ok(Seen {
        facts: vec![
            ("permits", entry.parameters[0].to_string()),
            ("taken", holders.len().to_string()),
            ("held by participants", numbers.join(", ")),
        ],
        points: vec![Point::new(0, "a permit", holders, "holder")],
        ..Seen::default()
    })
}

fn barrier(area: &Area<ReadOnly>, entry: &Entry) -> Result<Seen, OutOfArea> {
    const LOW: u64 = (1 << 25) - 1;
    let turn = word64(area, 8)?;
    let (complete, broken) = (turn >> 32, turn & u64::from(u32::MAX));
    let (mut seated, mut missing) = (0, Vec::new());
    for seat in 0..entry.parameters[0].min(MOST) {
        let word = word64(area, 128 + 8 * seat as usize)?;
        if let Some(id) = ParticipantId::new(word & ((1 << 14) - 1)) {
            seated += 1;
            let arrived = word >> 39 == complete & LOW && word >> 14 & LOW == broken & LOW;
            if !arrived {
                missing.push(id);
            }
        }
    }
    Ok(Seen {
        facts: vec![
            ("seats", entry.parameters[0].to_string()),
            ("taken", seated.to_string()),
            ("rounds complete", complete.to_string()),
            ("rounds broken", broken.to_string()),
        ],
        points: vec![Point::new(
            0,
            "the others",
            missing,
            "one who has not arrived",
        )],
        ..Seen::default()
    })
}

fn latest(area: &Area<ReadOnly>) -> Result<Seen, OutOfArea> {
    let (mut lock, lease) = lock(area, 0)?;
    // Its writers clear the mark of a death; it says nothing there.
    lock.broken = false;
    let writer = lease.blockers.clone();
    Ok(Seen {
        facts: vec![("version", word64(area, 128)?.to_string())],
        lock: Some(lock),
        points: vec![lease, Point::new(4, "a newer value", writer, "writer")],
        ..Seen::default()
    })
}

fn sequence(area: &Area<ReadOnly>, entry: &Entry) -> Result<Seen, OutOfArea> {
    const SHOWN: u64 = 16;
    let counters = entry.parameters[0];
    let mut values = Vec::new();
    for index in 0..counters.min(SHOWN) {
        values.push(word64(area, 128 * index as usize)?.to_string());
    }
    if counters > SHOWN {
        values.push("...".into());
    }
    Ok(Seen {
        facts: vec![
            ("counters", counters.to_string()),
            ("values", values.join(", ")),
        ],
        ..Seen::default()
    })
}

fn ids(area: &Area<ReadOnly>) -> Result<Seen, OutOfArea> {
    Ok(Seen {
        facts: vec![
            ("next", word64(area, 0)?.to_string()),
            ("limit", word64(area, 128)?.to_string()),
        ],
        ..Seen::default()
    })
}

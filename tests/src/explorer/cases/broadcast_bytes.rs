//! Broadcast of bytes: a producer and readers of all sorts, with their successors, killed before any access.
//!
//! As for [`broadcast`](super::broadcast), each process is one operation, and a record names its number, so each reader
//! judges what it gets: in order, whole, and with every gap counted exactly. A lossless reader is told of no gap any more
//! once the producer has taken note of it and it has taken a record since.

use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use ipc_core::memory::{Area, LockByte};
use ipc_ring::broadcast_bytes::{Receiver, Shared, Start};
use ipc_ring::bytes::{ReceiveRecords, SendRecords};
use ipc_ring::side::{Refusal, Side};

use super::super::{Actor, Case, Explored, Options, Setup, Step, Timeouts, View};
use super::Entry;
use super::audience::{DIED, HOLDER, Role, id, recover, row, rows, wait};

/// Offsets in a ring.
mod field {
    pub(super) const TAIL: usize = 0;
    pub(super) const OLDEST: usize = 64;
    /// Where marks end.
    pub(super) const MARKS: usize = 120;
    pub(super) const ITEMS: usize = 128;
    pub(super) const CLOSED: usize = 132;
    pub(super) const JOINED: usize = 136;
    pub(super) const SEEN: usize = 144;
    pub(super) const SPACE: usize = 256;
    pub(super) const PRODUCER: usize = 384;
    pub(super) const ROWS: usize = 512;
    pub(super) const ROW: usize = 128;
    /// In a row: the mark of its reader.
    pub(super) const HEAD: usize = 16;
    pub(super) const ARENA: usize = 4608;
}

/// A ring and those who come to use it.
#[derive(Clone)]
pub struct BroadcastBytesCase {
    /// Bytes of the arena, and of a record.
    capacity: usize,
    size: usize,
    /// Records that the ring is to carry.
    records: u64,
    /// Who comes, in the order of their processes. A successor begins when the process before it has died.
    roles: Vec<Role>,
    /// Whether the producer pushes as many at once as fit.
    batch: bool,
    /// Whether a reader that finds nothing sleeps; otherwise it looks again, at most so often.
    tries: Option<u32>,
    /// Whether a lossless reader that is in the way is let go at once.
    impatient: bool,
    /// Processes that may be killed.
    victims: Vec<usize>,
    options: Options,
}

/// Where a process stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Local {
    done: bool,
    /// Messages taken, and told to be missed.
    taken: u64,
    missed: u64,
}

/// The record of that number.
fn record(number: u64, size: usize) -> Vec<u8> {
    let words = (0..size as u64 / 8).map(|word| (number + 1) << (8 * word));
    words.flat_map(u64::to_le_bytes).collect()
}

/// Where a record of `len` bytes ends that begins at `start`, as `docs/layout.md` draws it.
fn end(start: u64, len: usize, capacity: usize) -> u64 {
    let body = start + 8;
    let before_seam = capacity as u64 - body % capacity as u64;
    let skip = if len as u64 > before_seam {
        before_seam
    } else {
        0
    };
    body + skip + len as u64
}

impl BroadcastBytesCase {
    fn len(&self) -> usize {
        Shared::<Explored>::size(self.capacity).expect("small")
    }

    fn produce(&self, ring: &Shared<Explored>, memory: &Explored) {
        let mut sender = ring.sender().expect("sound marks");
        // Where the ring has got to, by which the application knows what is left to do: the note of the tail.
        let area = Area::new(memory.clone(), 0, self.len()).expect("fits");
        let word = |at: usize| area.word64(at).expect("fits").load(Acquire);
        let note = if word(field::TAIL + 8) == word(field::TAIL) {
            8
        } else {
            32
        };
        let mut next = word(field::TAIL + note + 8);
        while next < self.records {
            let left: Vec<_> = (next..self.records)
                .map(|number| record(number, self.size))
                .collect();
            let pushed = wait(ring, memory, &mut sender, None, |sender| {
                if self.batch {
                    return sender.try_push_batch(&left);
                }
                let place = sender.try_reserve(self.size)?;
                sender.write(&place, 0, &left[0]);
                sender.commit(place);
                Ok(1)
            });
            next += pushed.expect("nothing refuses a push but a full ring") as u64;
        }
    }

    /// Takes records until the last one. Tells how many, and how many were missed.
    fn consume<S: ReceiveRecords<Memory = Explored>>(
        &self,
        ring: &Shared<Explored>,
        memory: &Explored,
        side: &mut S,
        role: Role,
        is_settled: impl Fn(&S) -> bool,
    ) -> Local {
        let mut local = Local {
            done: true,
            ..Local::default()
        };
        // The number of the next record, once one has told where we are; and whether none may be missed any more.
        let (mut next, mut safe) = (None, false);
        while next != Some(self.records) {
            let settled = is_settled(side);
            let mut taken = vec![0; self.size];
            let popped = wait(ring, memory, side, self.tries, |side| {
                let place = side.try_next()?;
                side.read(&place, 0, &mut taken);
                side.commit(place)
            });
            match popped {
                Ok(()) => {
                    let first = u64::from_le_bytes(taken[..8].try_into().expect("eight"));
                    let found = first
                        .checked_sub(1)
                        .expect("a record that was never written");
                    assert_eq!(taken, record(found, self.size), "a torn record");
                    match (role, next) {
                        (Role::Latest, Some(next)) => assert!(found >= next, "back to {found}"),
                        (_, Some(next)) => assert_eq!(found, next, "what the reader got"),
                        (_, None) => {}
                    }
                    next = Some(found + 1);
                    safe = settled && !self.impatient;
                    local.taken += 1;
                }
                Err(Refusal::Lagged(missed)) => {
                    assert!(!safe, "a lossless reader missed {missed}");
                    assert!(missed > 0, "missed nothing");
                    next = next.map(|next| next + missed);
                    local.missed += missed;
                }
                // It has tried often enough.
                Err(Refusal::NotYet) => break,
                Err(refusal) => panic!("refused by {refusal:?}"),
            }
        }
        local
    }

    /// The position behind the last record.
    fn last(&self) -> u64 {
        (0..self.records).fold(0, |at, _| end(at, self.size, self.capacity))
    }
}

impl Case for BroadcastBytesCase {
    type Local = Local;
    type Ghost = ();

    const SIGHTS: &'static [&'static str] = &[
        "all messages published",
        "a reader told what it has missed",
        "a producer asleep because of a reader",
        "a role taken from a dead process",
    ];

    fn options(&self) -> Options {
        Options {
            len: self.len(),
            ..self.options
        }
    }

    fn actors(&self) -> Vec<Actor<Local>> {
        let actor = |(process, role): (usize, &Role)| {
            Actor::new(
                format!("{role:?}").to_lowercase(),
                process,
                Local::default(),
            )
        };
        self.roles.iter().enumerate().map(actor).collect()
    }

    fn setup(&self) -> Setup {
        let life = |process| (LockByte::Life(id(process).get()), process);
        Setup {
            words: Vec::new(),
            locks: (0..self.roles.len()).map(life).collect(),
        }
    }

    /// Nobody closes the ring, and rows beyond those of the readers stay as they are.
    fn glued(&self, at: usize) -> bool {
        let used = field::ROWS + rows(&self.roles) * field::ROW;
        at == field::CLOSED || (used..field::ARENA).contains(&at)
    }

    fn operate(&self, process: usize, memory: &Explored, local: &Local) -> Option<Local> {
        if local.done {
            return None;
        }
        let area = Area::new(memory.clone(), 0, self.len()).expect("fits");
        let ring = Shared::new(&area, self.capacity).expect("fits");
        let ring = ring.with_patience(self.impatient.then_some(Duration::ZERO));
        let (me, role) = (id(process), self.roles[process]);
        let claimed = match role {
            Role::Produce | Role::ProduceOn => Some(ring.producer()),
            Role::Lossless | Role::Successor => ring.readers().nth(row(&self.roles, process)),
            Role::Lossy | Role::Latest => None,
        };
        if matches!(role, Role::ProduceOn | Role::Successor) {
            recover(&ring, memory, id(process - 1));
            if claimed.is_some_and(|role| role.claim(me).is_err()) {
                // Somebody else is at it just now: begin again.
                return Some(*local);
            }
        } else if let Some(claimed) = claimed {
            claimed.claim(me).expect("the role is free");
        }
        let after = match role {
            Role::Produce | Role::ProduceOn => {
                self.produce(&ring, memory);
                Local {
                    done: true,
                    ..Local::default()
                }
            }
            Role::Lossless | Role::Successor => {
                let start = if role == Role::Lossless {
                    Start::Oldest
                } else {
                    Start::Successor
                };
                let side = ring.receiver(row(&self.roles, process), start);
                let mut side = side.expect("sound marks");
                let after = self.consume(&ring, memory, &mut side, role, Receiver::is_settled);
                side.leave();
                after
            }
            Role::Lossy | Role::Latest => {
                let side = ring.watcher(Start::Oldest, role == Role::Latest);
                let mut side = side.expect("sound marks");
                self.consume(&ring, memory, &mut side, role, |_| false)
            }
        };
        if let Some(claimed) = claimed {
            claimed.give_up(me);
        }
        Some(after)
    }

    fn may_start(&self, view: &View<'_, Self>, actor: usize) -> bool {
        let comes_after = matches!(self.roles[actor], Role::ProduceOn | Role::Successor);
        !comes_after || view.is_released(actor - 1)
    }

    fn may_be_killed(&self, process: usize) -> bool {
        self.victims.contains(&process)
    }

    /// A mark, or a byte of the arena, is stored by whoever has the role.
    fn watch(&self, step: &Step<'_, Self>, (): &mut ()) -> Result<(), String> {
        let Some((at, _)) = step.what.stored() else {
            return Ok(());
        };
        let role = match at {
            field::TAIL..field::MARKS | field::SEEN | field::ARENA.. => field::PRODUCER,
            field::ROWS..field::ARENA if (at - field::ROWS) % field::ROW >= field::HEAD => {
                at - (at - field::ROWS) % field::ROW
            }
            _ => return Ok(()),
        };
        let holder = step.from.word64(role) & HOLDER;
        if holder == step.process as u64 + 1 {
            Ok(())
        } else {
            Err(format!(
                "{} was stored by process {}, while {holder} has the role",
                self.name_of(at),
                step.process
            ))
        }
    }

    fn good(&self, view: &View<'_, Self>) -> bool {
        let done = |actor: usize| {
            view.local(actor).done || view.is_dead(actor) || !self.may_start(view, actor)
        };
        (0..view.actors()).all(done) && view.word64(field::TAIL) == self.last()
    }

    fn sights(&self, view: &View<'_, Self>) -> u32 {
        let has = |wanted: Role| self.roles.contains(&wanted);
        let may_miss = has(Role::Lossy) || self.impatient;
        let lapped = may_miss && self.last() > self.capacity as u64;
        let roles = [field::PRODUCER, field::ROWS, field::ROWS + field::ROW];
        [
            view.word64(field::TAIL) == self.last(),
            !lapped || (0..view.actors()).any(|actor| view.local(actor).missed > 0),
            !has(Role::Lossless)
                || self.impatient
                || self.last() <= self.capacity as u64
                || (0..view.actors()).any(|actor| {
                    matches!(self.roles[actor], Role::Produce | Role::ProduceOn)
                        && view.is_asleep(actor)
                }),
            self.victims.is_empty() || roles.iter().any(|at| view.word64(*at) & DIED != 0),
        ]
        .into_iter()
        .enumerate()
        .fold(0, |bits, (n, seen)| bits | u32::from(seen) << n)
    }

    fn name_of(&self, at: usize) -> String {
        match at {
            field::TAIL..field::OLDEST => format!("tail byte {}", at - field::TAIL),
            field::OLDEST..field::MARKS => format!("oldest byte {}", at - field::OLDEST),
            field::ITEMS => "items".into(),
            field::CLOSED => "closed".into(),
            field::JOINED => "joined".into(),
            field::SEEN => "seen".into(),
            field::SPACE => "space".into(),
            field::PRODUCER => "producer's role".into(),
            field::ROWS..field::ARENA => {
                let at = at - field::ROWS;
                format!("row {} byte {}", at / field::ROW, at % field::ROW)
            }
            _ => format!("byte {}", at.saturating_sub(field::ARENA)),
        }
    }
}

pub(super) fn entries() -> Vec<Entry> {
    let case = |capacity, records, roles: &[Role]| BroadcastBytesCase {
        capacity,
        size: 8,
        records,
        roles: roles.to_vec(),
        batch: false,
        tries: None,
        impatient: false,
        victims: Vec::new(),
        // Deaths are proven by lock bytes here.
        options: Options {
            gone: false,
            ..Options::default()
        },
    };
    let tries = |tries, case| BroadcastBytesCase {
        tries: Some(tries),
        ..case
    };
    let killing = |kills, victims: &[usize], case: BroadcastBytesCase| BroadcastBytesCase {
        victims: victims.to_vec(),
        options: Options {
            kills,
            timeouts: Timeouts::WhenStuck,
            ..case.options
        },
        ..case
    };
    use Role::{Latest, Lossless, Lossy, Produce, ProduceOn, Successor};
    vec![
        Entry::quick(
            "broadcast_bytes/one record, lossy",
            tries(0, case(16, 3, &[Produce, Lossy])),
        ),
        Entry::quick(
            "broadcast_bytes/two records, lossy",
            tries(0, case(32, 3, &[Produce, Lossy])),
        ),
        Entry::quick(
            "broadcast_bytes/round the seam, lossy",
            BroadcastBytesCase {
                size: 16,
                ..tries(0, case(32, 3, &[Produce, Lossy]))
            },
        ),
        Entry::quick(
            "broadcast_bytes/latest",
            tries(0, case(32, 3, &[Produce, Latest])),
        ),
        Entry::quick(
            "broadcast_bytes/one record, lossless",
            tries(0, case(16, 2, &[Produce, Lossless])),
        ),
        Entry::quick(
            "broadcast_bytes/batches, lossless",
            BroadcastBytesCase {
                batch: true,
                ..tries(0, case(32, 2, &[Produce, Lossless]))
            },
        ),
        Entry::quick(
            "broadcast_bytes/a slow reader is let go",
            BroadcastBytesCase {
                impatient: true,
                ..tries(0, case(16, 2, &[Produce, Lossless]))
            },
        ),
        Entry::quick(
            "broadcast_bytes/the producer is killed, lossy",
            killing(1, &[0], tries(0, case(16, 2, &[Produce, ProduceOn, Lossy]))),
        ),
        Entry::quick(
            "broadcast_bytes/the lossless reader is killed",
            killing(1, &[1], tries(0, case(16, 2, &[Produce, Lossless]))),
        ),
        Entry::long(
            "broadcast_bytes/the lossless reader is killed and replaced",
            killing(
                1,
                &[1],
                tries(0, case(16, 1, &[Produce, Lossless, Successor])),
            ),
        ),
        Entry::long(
            "broadcast_bytes/lossless, asleep",
            case(16, 2, &[Produce, Lossless]),
        ),
        Entry::long(
            "broadcast_bytes/lossless and lossy",
            tries(0, case(16, 2, &[Produce, Lossless, Lossy])),
        ),
    ]
}

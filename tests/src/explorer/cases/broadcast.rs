//! Broadcast rings: a producer and readers of all sorts, with their successors, killed before any access.
//!
//! Each process is one operation: it takes its role, from a dead predecessor where there is one, and pushes or takes
//! messages until the ring has carried so many. A message names its position, so each reader judges what it gets: in
//! order, whole, and with every gap counted exactly. A lossless reader may be told of no gap at all, but where it succeeds
//! a dead one. Whoever is held up by a reader asks its lock byte whether it has died, and clears up after it.

use std::time::Duration;

use ipc_core::memory::{Area, LockByte};
use ipc_ring::broadcast::{Shared, Start};
use ipc_ring::side::{ReceiveSide, Refusal, SendSide, Side};

use super::super::{Actor, Case, Explored, Options, Setup, Step, Timeouts, View};
use super::Entry;
use super::audience::{DIED, HOLDER, Role, id, recover, row, rows, wait};

/// Offsets in a ring.
mod field {
    pub(super) const TAIL: usize = 0;
    pub(super) const ITEMS: usize = 128;
    pub(super) const CLOSED: usize = 132;
    pub(super) const JOINED: usize = 136;
    pub(super) const SPACE: usize = 256;
    pub(super) const PRODUCER: usize = 384;
    pub(super) const ROWS: usize = 512;
    pub(super) const ROW: usize = 128;
    pub(super) const SLOTS: usize = 4608;
    pub(super) const STRIDE: usize = 64;
}

/// Bytes of a message.
const SIZE: usize = 16;

/// A ring and those who come to use it.
#[derive(Clone)]
pub struct BroadcastCase {
    slots: usize,
    /// Messages that the ring is to carry.
    messages: u64,
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

fn bytes(position: u64) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[..8].copy_from_slice(&(position + 1).to_le_bytes());
    bytes[8..].copy_from_slice(&(!(position + 1)).to_le_bytes());
    bytes
}

fn position(bytes: &[u8; SIZE]) -> u64 {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
    assert_eq!(word(0), !word(8), "a torn message");
    word(0) - 1
}

impl BroadcastCase {
    fn len(&self) -> usize {
        Shared::<Explored>::size(self.slots, SIZE, 8).expect("small")
    }

    fn produce(&self, ring: &Shared<Explored>, memory: &Explored) {
        let mut sender = ring.sender();
        // Where the ring has got to, by which the application knows what is left to do: the sender has found it.
        let area = Area::new(memory.clone(), 0, self.len()).expect("fits");
        let tail = area.word64(field::TAIL).expect("fits");
        let mut next = tail.load(std::sync::atomic::Ordering::Acquire);
        while next < self.messages {
            let left: Vec<u8> = (next..self.messages).flat_map(bytes).collect();
            let pushed = wait(ring, memory, &mut sender, None, |sender| {
                if self.batch {
                    sender.try_push(&left)
                } else {
                    sender.try_push_one(&left[..SIZE]).map(|()| 1)
                }
            });
            next += pushed.expect("nothing refuses a push but a full ring") as u64;
        }
    }

    /// Takes messages until the last one. Tells how many, and how many were missed.
    fn consume(
        &self,
        ring: &Shared<Explored>,
        memory: &Explored,
        side: &mut impl ReceiveSide<Memory = Explored>,
        role: Role,
    ) -> Local {
        let mut local = Local {
            done: true,
            ..Local::default()
        };
        // The position of the next message, once one has told where we are.
        let mut next = None;
        while next != Some(self.messages) {
            let mut message = [0; SIZE];
            let popped = wait(ring, memory, side, self.tries, |side| {
                side.try_pop_one(&mut message)
            });
            match popped {
                Ok(()) => {
                    let found = position(&message);
                    match (role, next) {
                        (Role::Latest, Some(next)) => assert!(found >= next, "back to {found}"),
                        (_, Some(next)) => assert_eq!(found, next, "what the reader got"),
                        (_, None) => {}
                    }
                    next = Some(found + 1);
                    local.taken += 1;
                }
                Err(Refusal::Lagged(missed)) => {
                    let lossless = role == Role::Lossless && !self.impatient;
                    assert!(!lossless, "a lossless reader missed {missed}");
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
}

impl Case for BroadcastCase {
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
        at == field::CLOSED || (used..field::SLOTS).contains(&at)
    }

    fn operate(&self, process: usize, memory: &Explored, local: &Local) -> Option<Local> {
        if local.done {
            return None;
        }
        let area = Area::new(memory.clone(), 0, self.len()).expect("fits");
        let ring = Shared::new(&area, self.slots, SIZE, 8).expect("fits");
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
                let mut side = ring.receiver(row(&self.roles, process), start);
                let after = self.consume(&ring, memory, &mut side, role);
                side.leave();
                after
            }
            Role::Lossy | Role::Latest => {
                let mut side = ring.watcher(Start::Oldest, role == Role::Latest);
                self.consume(&ring, memory, &mut side, role)
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

    /// A position, a head, or the word of a row is stored by whoever has the role, or is proven dead.
    fn watch(&self, step: &Step<'_, Self>, (): &mut ()) -> Result<(), String> {
        let Some((at, _)) = step.what.stored() else {
            return Ok(());
        };
        let role = match at {
            field::TAIL => field::PRODUCER,
            field::ROWS..field::SLOTS if (at - field::ROWS) % field::ROW == 16 => at - 16,
            field::SLOTS.. if (at - field::SLOTS).is_multiple_of(field::STRIDE) => field::PRODUCER,
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
        (0..view.actors()).all(done) && view.word64(field::TAIL) == self.messages
    }

    fn sights(&self, view: &View<'_, Self>) -> u32 {
        let has = |wanted: Role| self.roles.contains(&wanted);
        let may_miss = has(Role::Lossy) || self.impatient;
        let lapped = may_miss && self.messages > self.slots as u64;
        let roles = [field::PRODUCER, field::ROWS, field::ROWS + field::ROW];
        [
            view.word64(field::TAIL) == self.messages,
            !lapped || (0..view.actors()).any(|actor| view.local(actor).missed > 0),
            !has(Role::Lossless)
                || self.impatient
                || self.messages <= self.slots as u64
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
            field::TAIL => "tail".into(),
            field::ITEMS => "items".into(),
            field::CLOSED => "closed".into(),
            field::JOINED => "joined".into(),
            field::SPACE => "space".into(),
            field::PRODUCER => "producer's role".into(),
            field::ROWS..field::SLOTS => {
                let at = at - field::ROWS;
                format!("row {} byte {}", at / field::ROW, at % field::ROW)
            }
            _ => {
                let at = at.saturating_sub(field::SLOTS);
                format!("slot {} byte {}", at / field::STRIDE, at % field::STRIDE)
            }
        }
    }
}

pub(super) fn entries() -> Vec<Entry> {
    let case = |slots, messages, roles: &[Role]| BroadcastCase {
        slots,
        messages,
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
    let batch = |case| BroadcastCase {
        batch: true,
        ..case
    };
    let tries = |tries, case| BroadcastCase {
        tries: Some(tries),
        ..case
    };
    let patience = |case| BroadcastCase {
        impatient: true,
        ..case
    };
    let killing = |kills, victims: &[usize], case: BroadcastCase| BroadcastCase {
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
            "broadcast/one slot, lossy",
            tries(0, case(1, 3, &[Produce, Lossy])),
        ),
        Entry::quick(
            "broadcast/two slots, lossy",
            tries(1, case(2, 3, &[Produce, Lossy])),
        ),
        Entry::quick("broadcast/latest", tries(0, case(2, 3, &[Produce, Latest]))),
        Entry::quick("broadcast/latest, asleep", case(1, 1, &[Produce, Latest])),
        Entry::quick(
            "broadcast/one slot, lossless",
            tries(1, case(1, 2, &[Produce, Lossless])),
        ),
        Entry::quick(
            "broadcast/two slots, lossless, asleep",
            case(2, 2, &[Produce, Lossless]),
        ),
        Entry::long(
            "broadcast/two slots, four messages, a lossless reader joins",
            tries(0, case(2, 4, &[Produce, Lossless])),
        ),
        Entry::quick(
            "broadcast/a slow reader is let go",
            patience(tries(0, case(1, 2, &[Produce, Lossless]))),
        ),
        Entry::quick(
            "broadcast/the producer is killed, lossy",
            killing(1, &[0], tries(1, case(1, 2, &[Produce, ProduceOn, Lossy]))),
        ),
        Entry::quick(
            "broadcast/the producer is killed, lossless",
            killing(
                1,
                &[0],
                tries(0, case(1, 1, &[Produce, ProduceOn, Lossless])),
            ),
        ),
        Entry::quick(
            "broadcast/the lossless reader is killed",
            killing(1, &[1], tries(0, case(1, 2, &[Produce, Lossless]))),
        ),
        Entry::quick(
            "broadcast/the lossless reader is killed and replaced",
            killing(
                1,
                &[1],
                tries(0, case(1, 1, &[Produce, Lossless, Successor])),
            ),
        ),
        Entry::long(
            "broadcast/two slots, four messages",
            tries(1, case(2, 4, &[Produce, Lossy])),
        ),
        Entry::long(
            "broadcast/two slots, batches, lossless",
            tries(1, batch(case(2, 3, &[Produce, Lossless]))),
        ),
        Entry::long(
            "broadcast/a slow reader is let go and comes back",
            patience(tries(1, case(1, 3, &[Produce, Lossless]))),
        ),
        Entry::long(
            "broadcast/a slow reader is let go and killed",
            killing(
                1,
                &[1],
                patience(tries(0, case(1, 2, &[Produce, Lossless, Successor]))),
            ),
        ),
        Entry::long(
            "broadcast/the lossless reader is killed, three messages",
            killing(1, &[1], tries(1, case(1, 3, &[Produce, Lossless]))),
        ),
        Entry::long(
            "broadcast/lossless and lossy",
            tries(0, case(1, 2, &[Produce, Lossless, Lossy])),
        ),
        Entry::long(
            "broadcast/two lossless readers",
            tries(0, case(1, 2, &[Produce, Lossless, Lossless])),
        ),
        Entry::long(
            "broadcast/two slots, the lossless reader is killed and replaced",
            killing(
                1,
                &[1],
                tries(0, case(2, 2, &[Produce, Lossless, Successor])),
            ),
        ),
        Entry::long(
            "broadcast/one of two lossless readers is killed",
            killing(
                1,
                &[2],
                tries(0, case(1, 1, &[Produce, Lossless, Lossless])),
            ),
        ),
        Entry::long(
            "broadcast/producer and reader are killed",
            killing(
                2,
                &[0, 2],
                tries(0, case(1, 1, &[Produce, ProduceOn, Lossless, Successor])),
            ),
        ),
    ]
}

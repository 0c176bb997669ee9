//! SPSC rings: a producer, a consumer and their successors, which wait for each other and are killed before any access.
//!
//! Each process is one operation: it takes its role, from a dead predecessor where there is one, and pushes or takes
//! messages until the ring has carried so many. What a side knows privately of the other is thus kept as in production.
//! A successor begins when the kernel has freed what its predecessor held, which is what proves the death; that no death
//! is proven wrongly is shown by the cases of participants.

use std::time::Duration;

use ipc_core::memory::Area;
use ipc_core::participant::ParticipantId;
use ipc_ring::side::{LendSide, ReceiveSide, Refusal, SendSide, Side, Whole};
use ipc_ring::spsc::Shared;

use super::super::{Access, Actor, Case, Explored, Options, Step, Timeouts, View, What};
use super::Entry;

/// Offsets in a ring.
mod field {
    pub(super) const TAIL: usize = 0;
    pub(super) const SEEN: usize = 8;
    pub(super) const HEAD: usize = 128;
    pub(super) const ITEMS: usize = 256;
    pub(super) const CLOSED: usize = 260;
    pub(super) const SPACE: usize = 384;
    pub(super) const PRODUCER: usize = 512;
    pub(super) const CONSUMER: usize = 520;
    pub(super) const SLOTS: usize = 640;
}

/// Bytes of a message.
const SIZE: usize = 16;

/// A ring and those who come to use it.
#[derive(Clone)]
pub struct SpscCase {
    slots: usize,
    /// Messages that the ring is to carry.
    messages: u64,
    /// How many producers, and how many consumers, come one after the other.
    producers: usize,
    consumers: usize,
    manner: Manner,
    /// Whether whoever is refused sleeps; otherwise it tries again, at most so often.
    tries: Option<u32>,
    options: Options,
}

/// How messages go in and out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// One by one, by copy.
    Single,
    /// As many as fit.
    Batch,
    /// Reserve and commit, read and release.
    Lend,
}

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    produces: bool,
    /// How many came before it in its role.
    turn: usize,
    done: bool,
}

/// What the judge remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// Payload words of each slot that were written, or read, since the position last passed it.
    written: [u8; 4],
    read: [u8; 4],
    /// Who has the roles.
    producer: Option<usize>,
    consumer: Option<usize>,
    replaced: bool,
}

/// The message at a position. A message that a dead producer had written and not published is the same once more.
fn bytes(position: u64) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[..8].copy_from_slice(&(position + 1).to_le_bytes());
    bytes[8..].copy_from_slice(&(!(position + 1)).to_le_bytes());
    bytes
}

impl SpscCase {
    fn id(&self, process: usize) -> ParticipantId {
        ParticipantId::new(process as u64 + 1).expect("a number")
    }

    fn len(&self) -> usize {
        Shared::<Explored>::size(self.slots, SIZE).expect("small")
    }

    fn process(&self, local: Local) -> usize {
        if local.produces {
            local.turn
        } else {
            self.producers + local.turn
        }
    }

    /// Repeats the attempt until it succeeds, sleeping while it is refused. `None` if it gave up.
    fn wait<S: Side, T>(
        &self,
        side: &mut S,
        mut attempt: impl FnMut(&mut S) -> Result<T, Refusal>,
    ) -> Option<T> {
        let check = |outcome: Result<T, Refusal>| match outcome {
            Ok(got) => Some(got),
            Err(Refusal::NotYet) => None,
            Err(refusal) => panic!("refused by {refusal:?}"),
        };
        let mut tries = self.tries;
        loop {
            if let Some(got) = check(attempt(side)) {
                return Some(got);
            }
            match &mut tries {
                Some(0) => return None,
                Some(left) => *left -= 1,
                None => {
                    let prepared = side.event().prepare();
                    if let Some(got) = check(attempt(side)) {
                        return Some(got);
                    }
                    side.event().sleep(prepared, Duration::MAX);
                }
            }
        }
    }

    fn produce(&self, ring: &Shared<Explored>, from: u64) {
        let mut sender = ring.sender().expect("sound positions");
        let mut position = from;
        while position < self.messages {
            let pushed = match self.manner {
                Manner::Single => self.wait(&mut sender, |sender| {
                    sender.try_push_one(&bytes(position)).map(|()| 1)
                }),
                Manner::Batch => {
                    let all: Vec<u8> = (position..self.messages).flat_map(bytes).collect();
                    self.wait(&mut sender, |sender| sender.try_push(&all))
                }
                Manner::Lend => {
                    let place = self.wait(&mut sender, |sender| sender.try_reserve());
                    place.map(|place| {
                        sender.payload().write(place, &bytes(position));
                        sender.commit(place);
                        1
                    })
                }
            };
            let Some(pushed) = pushed else { return };
            position += pushed as u64;
        }
    }

    fn consume(&self, ring: &Shared<Explored>, from: u64) {
        let mut receiver = ring.receiver().expect("sound positions");
        let mut position = from;
        while position < self.messages {
            let mut into = vec![
                0;
                if self.manner == Manner::Batch {
                    self.slots * SIZE
                } else {
                    SIZE
                }
            ];
            let popped = match self.manner {
                Manner::Single => self.wait(&mut receiver, |receiver| {
                    receiver.try_pop_one(&mut into).map(|()| 1)
                }),
                Manner::Batch => self.wait(&mut receiver, |receiver| receiver.try_pop(&mut into)),
                Manner::Lend => {
                    let taken = self.wait(&mut receiver, |receiver| receiver.try_read());
                    taken.map(|taken| {
                        receiver.payload().read(taken.place, &mut into);
                        receiver.release(taken.place);
                        1
                    })
                }
            };
            let Some(popped) = popped else { return };
            for message in into.chunks(SIZE).take(popped) {
                assert_eq!(
                    message,
                    bytes(position),
                    "what the consumer got at {position}"
                );
                position += 1;
            }
        }
    }

    /// Judges a store to one of the positions: by the holder of the role, by one or a batch, within bounds, and only when
    /// the slots passed were written, or read, whole.
    fn judge_position(
        &self,
        step: &Step<'_, Self>,
        ghost: &mut Ghost,
        at: usize,
        value: u64,
    ) -> Result<(), String> {
        let old = step.before;
        let (head, tail) = (step.to.word64(field::HEAD), step.to.word64(field::TAIL));
        let (holder, done) = if at == field::TAIL {
            (ghost.producer, &mut ghost.written)
        } else {
            (ghost.consumer, &mut ghost.read)
        };
        if holder != Some(step.process) {
            return Err(format!(
                "a position was stored by process {}, which has not the role",
                step.process
            ));
        }
        if value <= old || head > tail || tail - head > self.slots as u64 {
            return Err(format!("from {old} to {value}: head {head}, tail {tail}"));
        }
        for position in old..value {
            let slot = position as usize % self.slots;
            if std::mem::take(&mut done[slot]) != 3 {
                return Err(format!(
                    "position {position} was passed before all of its message was copied"
                ));
            }
        }
        Ok(())
    }

    fn judge_payload(
        &self,
        step: &Step<'_, Self>,
        ghost: &mut Ghost,
        at: usize,
        read: Option<u64>,
    ) -> Result<(), String> {
        let offset = at
            .checked_sub(field::SLOTS)
            .ok_or("payload outside the slots")?;
        let (slot, word) = (offset / SIZE, offset % SIZE / 8);
        let (head, tail) = (step.from.word64(field::HEAD), step.from.word64(field::TAIL));
        match read {
            None => {
                let free = (tail..head + self.slots as u64)
                    .any(|position| position as usize % self.slots == slot);
                if ghost.producer != Some(step.process) || !free {
                    return Err(format!(
                        "slot {slot} was written by process {} while it was not free",
                        step.process
                    ));
                }
                ghost.written[slot] |= 1 << word;
            }
            Some(read) => {
                let position =
                    (head..tail).find(|position| *position as usize % self.slots == slot);
                let Some(position) = position.filter(|_| ghost.consumer == Some(step.process))
                else {
                    return Err(format!(
                        "slot {slot} was read by process {} while it held nothing",
                        step.process
                    ));
                };
                let expected = &bytes(position)[8 * word..8 * word + 8];
                if read.to_le_bytes() != expected {
                    return Err(format!("read {read:#x} at position {position}"));
                }
                ghost.read[slot] |= 1 << word;
            }
        }
        Ok(())
    }

    fn judge_role(
        &self,
        step: &Step<'_, Self>,
        ghost: &mut Ghost,
        at: usize,
        value: u64,
    ) -> Result<(), String> {
        let producer = at == field::PRODUCER;
        let holder = if producer {
            &mut ghost.producer
        } else {
            &mut ghost.consumer
        };
        let taken = value & ((1 << 14) - 1) != 0;
        if let Some(old) = *holder
            && old != step.process
            && !step.from.is_dead(old)
        {
            return Err(format!(
                "the role of process {old}, which lives, was taken from it"
            ));
        }
        ghost.replaced |= !taken;
        // What a dead producer wrote, or a dead consumer read, without moving its position, counts for nothing.
        let done = if producer {
            &mut ghost.written
        } else {
            &mut ghost.read
        };
        *done = [0; 4];
        *holder = taken.then_some(step.process);
        Ok(())
    }
}

impl Case for SpscCase {
    type Local = Local;
    type Ghost = Ghost;

    const SIGHTS: &'static [&'static str] = &[
        "all messages committed",
        "a full ring",
        "a waiter asleep",
        "a role taken from a dead process",
    ];

    fn options(&self) -> Options {
        Options {
            len: self.len(),
            ..self.options
        }
    }

    fn actors(&self) -> Vec<Actor<Local>> {
        let producers = (0..self.producers).map(|turn| Local {
            produces: true,
            turn,
            done: false,
        });
        let consumers = (0..self.consumers).map(|turn| Local {
            produces: false,
            turn,
            done: false,
        });
        producers
            .chain(consumers)
            .map(|local| {
                let name = if local.produces {
                    "producer"
                } else {
                    "consumer"
                };
                Actor::new(format!("{name} {}", local.turn), self.process(local), local)
            })
            .collect()
    }

    /// Nobody closes the ring, and nobody observes it.
    fn glued(&self, at: usize) -> bool {
        matches!(at, field::CLOSED | field::SEEN)
    }

    fn operate(&self, process: usize, memory: &Explored, local: &Local) -> Option<Local> {
        if local.done {
            return None;
        }
        let area = Area::new(memory.clone(), 0, self.len()).expect("fits");
        let ring = Shared::new(&area, self.slots, SIZE).expect("fits");
        let (role, position) = if local.produces {
            (ring.producer(), field::TAIL)
        } else {
            (ring.consumer(), field::HEAD)
        };
        if local.turn > 0 {
            ring.recover(self.id(process - 1));
        }
        role.claim(self.id(process)).expect("the role is free");
        // Where the ring has got to, by which the application knows what is left to do.
        let from = area
            .word64(position)
            .expect("fits")
            .load(std::sync::atomic::Ordering::Acquire);
        if local.produces {
            self.produce(&ring, from);
        } else {
            self.consume(&ring, from);
        }
        role.give_up(self.id(process));
        Some(Local {
            done: true,
            ..*local
        })
    }

    fn may_start(&self, view: &View<'_, Self>, actor: usize) -> bool {
        let local = view.local(actor);
        local.turn == 0 || view.is_released(self.process(*local) - 1)
    }

    /// Whoever has a successor: without one, the other side would wait for ever.
    fn may_be_killed(&self, process: usize) -> bool {
        process + 1 != self.producers && process + 1 != self.producers + self.consumers
    }

    fn watch(&self, step: &Step<'_, Self>, ghost: &mut Ghost) -> Result<(), String> {
        if let What::Access { access, reply, .. } = step.what {
            match access {
                Access::Write { at, .. } => return self.judge_payload(step, ghost, at, None),
                Access::Read { at, .. } => {
                    return self.judge_payload(step, ghost, at, Some(reply.value));
                }
                _ => {}
            }
        }
        match step.what.stored() {
            Some((at @ (field::TAIL | field::HEAD), value)) => {
                self.judge_position(step, ghost, at, value)
            }
            Some((at @ (field::PRODUCER | field::CONSUMER), value)) => {
                self.judge_role(step, ghost, at, value)
            }
            _ => Ok(()),
        }
    }

    fn good(&self, view: &View<'_, Self>) -> bool {
        let done = |actor: usize| {
            let local = view.local(actor);
            local.done || view.is_dead(actor) || !self.may_start(view, actor)
        };
        let gave_up = self.tries.is_some();
        (0..view.actors()).all(done) && (gave_up || view.word64(field::HEAD) == self.messages)
    }

    fn sights(&self, view: &View<'_, Self>) -> u32 {
        let (head, tail) = (view.word64(field::HEAD), view.word64(field::TAIL));
        [
            head == self.messages,
            tail - head == self.slots as u64 || self.messages < self.slots as u64,
            self.tries.is_some() || (0..view.actors()).any(|actor| view.is_asleep(actor)),
            view.ghost().replaced || self.options.kills == 0,
        ]
        .into_iter()
        .enumerate()
        .fold(0, |bits, (n, seen)| bits | u32::from(seen) << n)
    }

    fn name_of(&self, at: usize) -> String {
        match at {
            field::TAIL => "tail".into(),
            field::HEAD => "head".into(),
            field::ITEMS => "items".into(),
            field::CLOSED => "closed".into(),
            field::SPACE => "space".into(),
            field::PRODUCER => "producer's role".into(),
            field::CONSUMER => "consumer's role".into(),
            _ => {
                let offset = at - field::SLOTS;
                format!("slot {} word {}", offset / SIZE, offset % SIZE / 8)
            }
        }
    }
}

pub(super) fn entries() -> Vec<Entry> {
    let case = |slots, messages| SpscCase {
        slots,
        messages,
        producers: 1,
        consumers: 1,
        manner: Manner::Single,
        tries: None,
        // Nobody asks whether a process has ended.
        options: Options {
            gone: false,
            ..Options::default()
        },
    };
    let killing = |kills, producers: usize, consumers: usize, case: SpscCase| SpscCase {
        producers: 1 + producers,
        consumers: 1 + consumers,
        options: Options {
            kills,
            timeouts: Timeouts::WhenStuck,
            ..case.options
        },
        ..case
    };
    let batch = |case| SpscCase {
        manner: Manner::Batch,
        ..case
    };
    let lend = |case| SpscCase {
        manner: Manner::Lend,
        ..case
    };
    let tries = |tries, case| SpscCase {
        tries: Some(tries),
        ..case
    };
    vec![
        Entry::quick("spsc/one slot, two messages", case(1, 2)),
        Entry::quick("spsc/two slots, three messages", case(2, 3)),
        Entry::quick("spsc/two slots, batches of three", batch(case(2, 3))),
        Entry::quick("spsc/one slot, lent", lend(case(1, 2))),
        Entry::quick("spsc/the producer is killed", killing(1, 1, 0, case(1, 2))),
        Entry::quick("spsc/the consumer is killed", killing(1, 0, 1, case(1, 2))),
        Entry::quick("spsc/tries without sleep", tries(2, case(2, 3))),
        // Two laps: each slot is filled, emptied, and filled and emptied once more. Five messages have no end: each message more
        // takes some ten times the states, since what an actor has read since it began is part of its state.
        Entry::long("spsc/two slots, four messages", case(2, 4)),
        Entry::long("spsc/two slots, batches of four", batch(case(2, 4))),
        Entry::long(
            "spsc/two slots, three messages, one kill",
            killing(1, 1, 1, case(2, 3)),
        ),
        Entry::long(
            "spsc/one slot, two messages, two kills",
            killing(2, 1, 1, case(1, 2)),
        ),
        Entry::long(
            "spsc/batches, one kill",
            killing(1, 1, 1, batch(case(2, 3))),
        ),
    ]
}

//! Lanes of records, one of them for a byte ring: producers, a consumer and their successors, killed before any access.
//!
//! As for [`spsc`](super::spsc), each process is one operation. The lengths of the records are those of a plan; so where
//! each lies follows from the drawing of the format, and a successor knows by the positions what is left to do.

use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use ipc_core::memory::Area;
use ipc_core::participant::ParticipantId;
use ipc_ring::bytes::Shared;
use ipc_ring::side::{Refusal, Side, Whole as _};

use super::super::{Actor, Case, Explored, Options, Step, Timeouts, View};
use super::Entry;

/// Offsets in a ring, and in a lane.
mod field {
    pub(super) const ITEMS: usize = 0;
    pub(super) const CLOSED: usize = 4;
    pub(super) const CONSUMER: usize = 128;
    pub(super) const LANES: usize = 256;

    pub(super) const TAIL: usize = 0;
    pub(super) const PUSHED: usize = 8;
    pub(super) const SEEN: usize = 16;
    pub(super) const HEAD: usize = 128;
    pub(super) const POPPED: usize = 136;
    pub(super) const LENT: usize = 144;
    pub(super) const SPACE: usize = 256;
    pub(super) const PRODUCER: usize = 384;
    pub(super) const ARENA: usize = 512;
}

/// Bytes of an arena.
const CAPACITY: usize = 32;

/// Who has a role.
const HOLDER: u64 = (1 << 14) - 1;
const DIED: u64 = 2 << 14;

/// Lanes and those who come to use them.
#[derive(Clone)]
pub struct LanesCase {
    /// The lengths of the records of each lane.
    plans: Vec<Vec<usize>>,
    /// The processes, those of one role one after the other.
    roles: Vec<Role>,
    manner: Manner,
    /// Who may be killed.
    victims: Vec<usize>,
    options: Options,
}

/// How records go in and out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Single,
    /// As many at once as fit.
    Batch,
    /// Records are shown before they are taken.
    Lend,
}

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Produces in a lane.
    Produce(usize),
    /// The same, after the process before it.
    ProduceOn(usize),
    /// Takes what is in all lanes.
    Consume,
    /// The same, after the process before it.
    ConsumeOn,
}

/// Whether a process has done its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Done(bool);

/// The record of a number in a lane: words that name both.
fn record(lane: usize, number: usize, len: usize) -> Vec<u8> {
    let filler = (0..len).map(|at| (16 * (lane + 1) + 4 * number + at / 8) as u8);
    filler.collect()
}

/// Where a record of `len` bytes ends that begins at `start`, as `docs/layout.md` draws it.
fn end(start: u64, len: usize) -> u64 {
    let body = start + 8;
    let before_seam = CAPACITY as u64 - body % CAPACITY as u64;
    let skip = if len as u64 > before_seam {
        before_seam
    } else {
        0
    };
    body + skip + (len as u64).next_multiple_of(8)
}

fn id(process: usize) -> ParticipantId {
    ParticipantId::new(process as u64 + 1).expect("a number")
}

fn lane_at(lane: usize) -> usize {
    field::LANES + lane * (field::ARENA + CAPACITY).next_multiple_of(128)
}

impl LanesCase {
    fn len(&self) -> usize {
        Shared::<Explored>::size(self.plans.len(), CAPACITY).expect("small")
    }

    /// How many records of a lane lie before a position.
    fn number_at(&self, lane: usize, position: u64) -> usize {
        let mut at = 0;
        let plan = self.plans[lane].iter();
        plan.take_while(|len| {
            let before = at < position;
            at = end(at, **len);
            before
        })
        .count()
    }

    /// The position behind the last record of a lane.
    fn last(&self, lane: usize) -> u64 {
        self.plans[lane].iter().fold(0, |at, len| end(at, *len))
    }

    fn wait<S: Side, T>(
        &self,
        side: &mut S,
        mut attempt: impl FnMut(&mut S) -> Result<T, Refusal>,
    ) -> T {
        let check = |outcome: Result<T, Refusal>| match outcome {
            Ok(got) => Some(got),
            Err(Refusal::NotYet) => None,
            Err(refusal) => panic!("refused by {refusal:?}"),
        };
        loop {
            if let Some(got) = check(attempt(side)) {
                return got;
            }
            let prepared = side.event().prepare();
            if let Some(got) = check(attempt(side)) {
                return got;
            }
            side.event().sleep(prepared, Duration::MAX);
        }
    }

    fn produce(&self, ring: &Shared<Explored>, lane: usize, from: usize) {
        let plan = &self.plans[lane];
        let mut sender = ring.sender(lane).expect("sound positions");
        let mut number = from;
        while number < plan.len() {
            let records: Vec<_> = (number..plan.len())
                .map(|number| record(lane, number, plan[number]))
                .collect();
            number += if self.manner == Manner::Batch {
                self.wait(&mut sender, |sender| sender.try_push_batch(&records))
            } else {
                let place = self.wait(&mut sender, |sender| sender.try_reserve(plan[number]));
                sender.write(&place, 0, &records[0]);
                sender.commit(place);
                1
            };
        }
    }

    fn consume(&self, ring: &Shared<Explored>, mut next: Vec<usize>) {
        let mut receiver = ring.receiver().expect("sound positions");
        while (0..self.plans.len()).any(|lane| next[lane] < self.plans[lane].len()) {
            let place = self.wait(&mut receiver, |receiver| receiver.try_next());
            let lane = receiver.lane();
            let number = next[lane];
            let len = self.plans[lane][number];
            if self.manner == Manner::Lend {
                receiver.lend(&place);
            }
            let mut found = vec![0; len];
            receiver.read(&place, 0, &mut found);
            assert_eq!(
                found,
                record(lane, number, len),
                "record {number} of lane {lane}"
            );
            receiver.commit(place);
            next[lane] += 1;
        }
    }
}

impl Case for LanesCase {
    type Local = Done;
    type Ghost = ();

    const SIGHTS: &'static [&'static str] = &[
        "all records committed",
        "a waiter asleep",
        "a role taken from a dead process",
    ];

    fn options(&self) -> Options {
        Options {
            len: self.len(),
            ..self.options
        }
    }

    fn actors(&self) -> Vec<Actor<Done>> {
        let actor = |(process, role): (usize, &Role)| {
            Actor::new(format!("{role:?}").to_lowercase(), process, Done(false))
        };
        self.roles.iter().enumerate().map(actor).collect()
    }

    /// Nobody closes the ring, and nobody observes it. Counts are for people to read: each is loaded by successors only.
    fn glued(&self, at: usize) -> bool {
        let in_lane = at
            .checked_sub(field::LANES)
            .map(|at| at % (lane_at(1) - lane_at(0)));
        at == field::CLOSED || matches!(in_lane, Some(field::PUSHED | field::SEEN | field::POPPED))
    }

    fn operate(&self, process: usize, memory: &Explored, done: &Done) -> Option<Done> {
        if done.0 {
            return None;
        }
        let area = Area::new(memory.clone(), 0, self.len()).expect("fits");
        let ring = Shared::new(&area, self.plans.len(), CAPACITY).expect("fits");
        let position = |lane, field| {
            let at = lane_at(lane) + field;
            area.word64(at).expect("fits").load(Acquire)
        };
        let role = self.roles[process];
        if matches!(role, Role::ProduceOn(_) | Role::ConsumeOn) {
            ring.recover(id(process - 1));
        }
        let word = match role {
            Role::Produce(lane) | Role::ProduceOn(lane) => ring.producer(lane),
            Role::Consume | Role::ConsumeOn => ring.consumer(),
        };
        word.claim(id(process)).expect("the role is free");
        match role {
            Role::Produce(lane) | Role::ProduceOn(lane) => {
                let from = self.number_at(lane, position(lane, field::TAIL));
                self.produce(&ring, lane, from);
            }
            Role::Consume | Role::ConsumeOn => {
                let next = (0..self.plans.len())
                    .map(|lane| self.number_at(lane, position(lane, field::HEAD)));
                self.consume(&ring, next.collect());
            }
        }
        word.give_up(id(process));
        Some(Done(true))
    }

    fn may_start(&self, view: &View<'_, Self>, actor: usize) -> bool {
        let comes_after = matches!(self.roles[actor], Role::ProduceOn(_) | Role::ConsumeOn);
        !comes_after || view.is_released(actor - 1)
    }

    fn may_be_killed(&self, process: usize) -> bool {
        self.victims.contains(&process)
    }

    /// A position is stored by whoever has the role, goes to the end of a record, and not past the other side.
    fn watch(&self, step: &Step<'_, Self>, (): &mut ()) -> Result<(), String> {
        let Some((at, value)) = step.what.stored() else {
            return Ok(());
        };
        for lane in 0..self.plans.len() {
            let base = lane_at(lane);
            let role = match at.checked_sub(base) {
                Some(field::TAIL) => base + field::PRODUCER,
                Some(field::HEAD) => field::CONSUMER,
                _ => continue,
            };
            let holder = step.from.word64(role) & HOLDER;
            if holder != step.process as u64 + 1 {
                return Err(format!(
                    "{} was stored by process {}, while {holder} has the role",
                    self.name_of(at),
                    step.process
                ));
            }
            let (head, tail) = (
                step.to.word64(base + field::HEAD),
                step.to.word64(base + field::TAIL),
            );
            if value <= step.before || head > tail || tail - head > CAPACITY as u64 {
                return Err(format!("lane {lane}: head {head}, tail {tail}"));
            }
        }
        Ok(())
    }

    fn good(&self, view: &View<'_, Self>) -> bool {
        let done = |actor: usize| {
            view.local(actor).0 || view.is_dead(actor) || !self.may_start(view, actor)
        };
        let taken = |lane| view.word64(lane_at(lane) + field::HEAD) == self.last(lane);
        (0..view.actors()).all(done) && (0..self.plans.len()).all(taken)
    }

    fn sights(&self, view: &View<'_, Self>) -> u32 {
        let lanes = 0..self.plans.len();
        let died = |at| view.word64(at) & DIED != 0;
        [
            lanes
                .clone()
                .all(|lane| view.word64(lane_at(lane) + field::HEAD) == self.last(lane)),
            (0..view.actors()).any(|actor| view.is_asleep(actor)),
            self.victims.is_empty()
                || died(field::CONSUMER)
                || lanes
                    .clone()
                    .any(|lane| died(lane_at(lane) + field::PRODUCER)),
        ]
        .into_iter()
        .enumerate()
        .fold(0, |bits, (n, seen)| bits | u32::from(seen) << n)
    }

    fn name_of(&self, at: usize) -> String {
        match at {
            field::ITEMS => return "items".into(),
            field::CLOSED => return "closed".into(),
            field::CONSUMER => return "consumer's role".into(),
            _ => {}
        }
        let at = at.saturating_sub(field::LANES);
        let stride = lane_at(1) - lane_at(0);
        let name = match at % stride {
            field::TAIL => "tail",
            field::PUSHED => "pushed",
            field::HEAD => "head",
            field::POPPED => "popped",
            field::LENT => "lent",
            field::SPACE => "space",
            field::PRODUCER => "producer's role",
            at => return format!("byte {}", at.saturating_sub(field::ARENA)),
        };
        format!("lane {} {name}", at / stride)
    }
}

pub(super) fn entries() -> Vec<Entry> {
    let case = |plans: &[&[usize]], roles: &[Role]| LanesCase {
        plans: plans.iter().map(|plan| plan.to_vec()).collect(),
        roles: roles.to_vec(),
        manner: Manner::Single,
        victims: Vec::new(),
        options: Options {
            gone: false,
            ..Options::default()
        },
    };
    let manner = |manner, case| LanesCase { manner, ..case };
    let killing = |kills, victims: &[usize], case: LanesCase| LanesCase {
        victims: victims.to_vec(),
        options: Options {
            kills,
            timeouts: Timeouts::WhenStuck,
            ..case.options
        },
        ..case
    };
    use Role::{Consume, ConsumeOn, Produce, ProduceOn};
    // The record of 16 bytes goes round the seam.
    let (long, seam, short): (&[usize], &[usize], &[usize]) = (&[8, 16, 8], &[8, 16], &[8, 8]);
    vec![
        Entry::quick("bytes/three records", case(&[long], &[Produce(0), Consume])),
        Entry::quick(
            "bytes/batches",
            manner(Manner::Batch, case(&[long], &[Produce(0), Consume])),
        ),
        Entry::quick(
            "bytes/the producer is killed",
            killing(1, &[0], case(&[seam], &[Produce(0), ProduceOn(0), Consume])),
        ),
        Entry::quick(
            "bytes/the consumer is killed",
            killing(1, &[1], case(&[seam], &[Produce(0), Consume, ConsumeOn])),
        ),
        Entry::quick(
            "bytes/the consumer is killed while a record is lent",
            killing(
                1,
                &[1],
                manner(
                    Manner::Lend,
                    case(&[seam], &[Produce(0), Consume, ConsumeOn]),
                ),
            ),
        ),
        Entry::quick(
            "lanes/two producers",
            case(&[&[8], &[8]], &[Produce(0), Produce(1), Consume]),
        ),
        Entry::long(
            "lanes/two producers of two records",
            case(&[short, short], &[Produce(0), Produce(1), Consume]),
        ),
        Entry::quick(
            "lanes/a producer is killed",
            killing(
                1,
                &[0],
                case(
                    &[&[8], &[8]],
                    &[Produce(0), ProduceOn(0), Produce(1), Consume],
                ),
            ),
        ),
        Entry::long(
            "lanes/the consumer is killed",
            killing(
                1,
                &[2],
                case(&[&[8], &[8]], &[Produce(0), Produce(1), Consume, ConsumeOn]),
            ),
        ),
        Entry::long(
            "bytes/two kills",
            killing(
                2,
                &[0, 2],
                case(&[seam], &[Produce(0), ProduceOn(0), Consume, ConsumeOn]),
            ),
        ),
    ]
}

//! MPMC rings: producers, consumers and newcomers, killed before any access, in the hands of a judge.
//!
//! A table of participants in which the first processes have already joined, and behind it a ring of messages of two
//! words. Actors make one attempt after the other by the sides that handles use; refused because of a claim, they look
//! whether its owner has died and clear up after it. Newcomers join when somebody has died, in the row of the dead if
//! there is no other. Processes may also wait, by the steps that handles wait with.
//!
//! The judge follows the words of the slots. `P` and `I` are the properties and invariants of the module
//! [`mpmc`](ipc_ring::mpmc), under Delivery.

mod entries;
mod judge;

use std::time::Duration;

use ipc_core::memory::Area;
use ipc_core::participant::{ParticipantId, Participants, ROW};
use ipc_ring::mpmc::Shared;
use ipc_ring::mpmc::geometry::{Phase, State};
use ipc_ring::side::{LendSide, ReceiveSide, Refusal, SendSide, Side, Whole};

use super::super::{Access, Actor, Case, Explored, Options, Setup, Step, View, What};

pub(super) use entries::entries;

/// Offsets in a ring.
mod field {
    pub(super) const TAIL: usize = 0;
    pub(super) const HEAD: usize = 128;
    pub(super) const ITEMS: usize = 256;
    pub(super) const CLOSED: usize = 260;
    pub(super) const SPACE: usize = 384;
    pub(super) const SLOTS: usize = 512;
    pub(super) const STRIDE: usize = 64;
    pub(super) const PAYLOAD: usize = 8;
}

/// Bytes of a message.
const SIZE: usize = 16;

/// Producers and consumers of one ring.
#[derive(Clone)]
pub struct MpmcCase {
    slots: usize,
    /// Roles of the processes that are there from the beginning.
    roles: Vec<Role>,
    /// Roles of those that come when somebody has died.
    newcomers: Vec<Role>,
    /// Whether they lend: reserve and commit, read and release.
    lend: bool,
    /// Whether they push all that they have at once, and take two at a time.
    batch: bool,
    /// Whether they wait for an event instead of trying again.
    wait: bool,
    /// The position at which the ring has arrived before.
    base: u64,
    options: Options,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Pushes so many messages.
    Produce(u8),
    /// As above, but gives its first reservation back.
    Abort(u8),
    /// Takes messages for ever.
    Consume,
    /// As above, but puts the first one back.
    PutBack,
    /// Takes so many messages.
    Take(u8),
}

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    role: Role,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// Has not joined.
    Outside,
    /// Has joined.
    Ready(ParticipantId),
    /// The same, after it was told "empty" or "full".
    Refused(ParticipantId),
    /// Looks whether the second one has died, which has refused it.
    Watching(ParticipantId, ParticipantId),
}

/// What the judge remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// How many positions producers have claimed.
    claimed: u64,
    /// Positions and messages that were published, in the order of positions.
    published: Vec<(u64, u64)>,
    /// Positions that were committed, ascending.
    committed: Vec<u64>,
    /// Process that has claimed each slot last.
    owners: [usize; 4],
    /// Payload words that the owner of each slot has written or read.
    touched: [u8; 4],
    /// Process that has each row.
    rows: [Option<usize>; 8],
    /// For each actor, whether "empty" or "full" has been true, or excusable, since its operation began.
    excused: u8,
    /// Whether a message came back.
    redelivered: bool,
    /// Whether a position was skipped.
    skipped: bool,
}

/// The message that a process pushes when it has `left` to push: nobody pushes it twice.
fn message(process: usize, left: u8) -> u64 {
    (process as u64 + 1) << 8 | u64::from(left)
}

fn bytes(value: u64) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[..8].copy_from_slice(&value.to_le_bytes());
    bytes[8..].copy_from_slice(&(!value).to_le_bytes());
    bytes
}

impl MpmcCase {
    fn processes(&self) -> usize {
        self.roles.len() + self.newcomers.len()
    }

    fn ring_at(&self) -> usize {
        self.roles.len() * ROW
    }

    fn ring(&self, memory: &Explored) -> Shared<Explored> {
        let len = memory_len(self) - self.ring_at();
        let area = Area::new(memory.clone(), self.ring_at(), len).expect("fits");
        Shared::new(&area, self.slots, SIZE, 8).expect("fits")
    }

    fn table(&self, memory: &Explored) -> Participants<Explored> {
        Participants::new(Area::new(memory.clone(), 0, self.ring_at()).expect("fits"))
            .expect("fits")
    }

    /// One attempt, or one wait, of a process that has joined.
    fn attempt(&self, process: usize, memory: &Explored, me: ParticipantId, role: Role) -> Local {
        let ring = self.ring(memory);
        let (outcome, after) = match role {
            Role::Produce(left) => {
                let mut sender = ring.sender(me);
                let all: Vec<_> = (1..=left)
                    .rev()
                    .flat_map(|left| bytes(message(process, left)))
                    .collect();
                let outcome = self.turn(&mut sender, |sender| {
                    if self.batch {
                        return sender.try_push(&all);
                    }
                    if !self.lend {
                        return sender.try_push_one(&all[..SIZE]).map(|()| 1);
                    }
                    let place = sender.try_reserve()?;
                    sender.payload().write(place, &all[..SIZE]);
                    sender.commit(place);
                    Ok(1)
                });
                (outcome, Role::Produce(left - outcome.unwrap_or(0) as u8))
            }
            Role::Abort(left) => {
                let mut sender = ring.sender(me);
                let outcome = sender.try_reserve().map(|place| {
                    sender.payload().write(place, &bytes(1));
                    sender.abort(place);
                    1
                });
                (outcome, Role::Produce(left))
            }
            Role::Consume | Role::Take(_) => {
                let mut receiver = ring.receiver(me);
                let most = if let Role::Take(1) = role { 1 } else { 2 };
                let outcome = self.turn(&mut receiver, |receiver| {
                    let mut bytes = [0; 2 * SIZE];
                    if self.batch {
                        return receiver.try_pop(&mut bytes[..most * SIZE]);
                    }
                    let bytes = &mut bytes[..SIZE];
                    if !self.lend {
                        return receiver.try_pop_one(bytes).map(|()| 1);
                    }
                    let taken = receiver.try_read()?;
                    receiver.payload().read(taken.place, bytes);
                    receiver.release(taken.place);
                    Ok(1)
                });
                let after = match role {
                    Role::Take(left) => Role::Take(left - outcome.unwrap_or(0) as u8),
                    other => other,
                };
                (outcome, after)
            }
            Role::PutBack => {
                let mut receiver = ring.receiver(me);
                let outcome = receiver
                    .try_read()
                    .map(|taken| receiver.put_back(taken.place))
                    .map(|()| 1);
                (outcome, Role::Consume)
            }
        };
        match outcome {
            Ok(_) => Local {
                role: after,
                stage: Stage::Ready(me),
            },
            Err(Refusal::NotYet) => Local {
                role,
                stage: Stage::Refused(me),
            },
            Err(Refusal::Held(by) | Refusal::Watch(by)) => Local {
                role,
                stage: Stage::Watching(me, by),
            },
            Err(refusal) => panic!("refused by {refusal:?}"),
        }
    }

    /// Makes the attempt once; where processes wait, announces a sleep if it is refused, looks again, and sleeps.
    fn turn<S: Side>(
        &self,
        side: &mut S,
        mut attempt: impl FnMut(&mut S) -> Result<usize, Refusal>,
    ) -> Result<usize, Refusal> {
        let refused = |outcome: &Result<usize, Refusal>| {
            outcome.is_err_and(|refusal| refusal != Refusal::Closed)
        };
        let mut outcome = attempt(side);
        if self.wait && refused(&outcome) {
            let prepared = side.event().prepare();
            outcome = attempt(side);
            if refused(&outcome) {
                side.event().sleep(prepared, Duration::MAX);
            }
        }
        outcome
    }
}

fn memory_len(case: &MpmcCase) -> usize {
    case.ring_at() + Shared::<Explored>::size(case.slots, SIZE, 8).expect("small")
}

impl Case for MpmcCase {
    type Local = Local;
    type Ghost = Ghost;

    const SIGHTS: &'static [&'static str] = &[
        "a message committed",
        "a message that came back",
        "a position that was skipped",
        "a newcomer that has joined",
    ];

    fn options(&self) -> Options {
        Options {
            len: memory_len(self),
            ..self.options
        }
    }

    fn actors(&self) -> Vec<Actor<Local>> {
        let first = |(process, &role): (usize, &Role)| {
            let id = ParticipantId::new(process as u64 + 1).expect("a number");
            Actor::new(
                format!("{process}"),
                process,
                Local {
                    role,
                    stage: Stage::Ready(id),
                },
            )
        };
        let later = |(n, &role): (usize, &Role)| {
            let process = self.roles.len() + n;
            Actor::new(
                format!("{process} (new)"),
                process,
                Local {
                    role,
                    stage: Stage::Outside,
                },
            )
        };
        let first = self.roles.iter().enumerate().map(first);
        first
            .chain(self.newcomers.iter().enumerate().map(later))
            .collect()
    }

    fn setup(&self) -> Setup {
        let mut setup = Setup::joined(self.roles.len());
        if self.base != 0 {
            let geometry = self.geometry();
            for slot in 0..self.slots {
                let at = self.ring_at() + field::SLOTS + slot * field::STRIDE;
                setup
                    .words
                    .push((at, geometry.free(self.base + slot as u64).0));
            }
            setup.words.push((self.ring_at() + field::TAIL, self.base));
            setup.words.push((self.ring_at() + field::HEAD, self.base));
        }
        setup
    }

    /// Nobody closes the ring, and where nobody waits, nobody writes the events. The identity of a row is written only
    /// while the row is free, and what was read of it counts only if the row was taken before and after: that it is
    /// written and read word by word is left to the cases of participants.
    fn glued(&self, at: usize) -> bool {
        match at.checked_sub(self.ring_at()) {
            None => !at.is_multiple_of(ROW),
            Some(field::CLOSED) => true,
            Some(field::ITEMS | field::SPACE) => !self.wait,
            Some(_) => false,
        }
    }

    fn operate(&self, process: usize, memory: &Explored, local: &Local) -> Option<Local> {
        let resolve = |dead: ParticipantId| {
            self.ring(memory).recover(dead);
            true
        };
        let stage = |stage| Local { stage, ..*local };
        match local.stage {
            Stage::Ready(_) | Stage::Refused(_)
                if matches!(local.role, Role::Produce(0) | Role::Take(0)) =>
            {
                None
            }
            Stage::Outside => match self.table(memory).join(resolve) {
                Ok(me) => Some(stage(Stage::Ready(me))),
                Err(_) => Some(*local),
            },
            Stage::Ready(me) | Stage::Refused(me) => {
                Some(self.attempt(process, memory, me, local.role))
            }
            Stage::Watching(me, other) => {
                if other != me {
                    self.table(memory).recover(other, resolve);
                }
                Some(stage(Stage::Ready(me)))
            }
        }
    }

    fn may_start(&self, view: &View<'_, Self>, actor: usize) -> bool {
        view.local(actor).stage != Stage::Outside
            || (0..view.processes()).any(|process| view.is_dead(process))
    }

    fn watch(&self, step: &Step<'_, Self>, ghost: &mut Ghost) -> Result<(), String> {
        for (actor, role) in self.roles.iter().chain(&self.newcomers).enumerate() {
            // Whoever stands between operations begins the next one with what is true now.
            let bit = 1 << actor;
            if step.from.at_start(actor) {
                ghost.excused &= !bit;
            }
            if self.is_refusal_true(&step.from, ghost, *role) {
                ghost.excused |= bit;
            }
        }
        if let What::Access { access, reply, .. } = step.what {
            match access {
                Access::Write { at, .. } => {
                    self.judge_payload(
                        step,
                        ghost,
                        self.slot_at(at).ok_or("a write outside the slots")?,
                        None,
                    )?;
                }
                Access::Read { at, .. } => {
                    let place = self.slot_at(at).ok_or("a read outside the slots")?;
                    self.judge_payload(step, ghost, place, Some(reply.value))?;
                }
                _ => {}
            }
        }
        if let Some((at, value)) = step.what.stored() {
            match at.checked_sub(self.ring_at()) {
                None if at.is_multiple_of(ROW) => {
                    ghost.rows[at / ROW] = (value & 1 != 0).then_some(step.process);
                }
                Some(field::TAIL) if value.wrapping_sub(self.base) > ghost.claimed => {
                    return Err("I5: the tail passed what was claimed".into());
                }
                Some(_) => {
                    if let Some((slot, 0)) = self.slot_at(at) {
                        self.judge_word(step, ghost, slot, State(value))?;
                    }
                }
                None => {}
            }
        }
        if let Some(actor) = step.actor
            && step.what.returned()
            && let Stage::Refused(_) = step.to.local(actor).stage
            && ghost.excused >> actor & 1 == 0
        {
            return Err(
                "P6: told \"empty\" or \"full\", which was not true at any moment of the call"
                    .into(),
            );
        }
        Ok(())
    }

    fn check(&self, view: &View<'_, Self>) -> Result<(), String> {
        let head = view
            .word64(self.ring_at() + field::HEAD)
            .wrapping_sub(self.base);
        let ghost = view.ghost();
        for slot in 0..self.slots {
            let state = self.state(view, slot);
            if head > self.position(slot, state) {
                return Err("I5: the head passed what is not finished".into());
            }
            if let Some(owner) = state.owner() {
                let row = usize::from(owner.get()) - 1;
                if view.word64(row * ROW) & 1 == 0 {
                    return Err(format!("I6: slot {slot} names {owner}, whose row is free"));
                }
                let holder = ghost.rows[row].unwrap_or(row);
                if holder != ghost.owners[slot] {
                    return Err(format!(
                        "P7: slot {slot} names {owner}, which is a newcomer's number now"
                    ));
                }
            }
        }
        Ok(())
    }

    fn good(&self, view: &View<'_, Self>) -> bool {
        let pushed = (0..view.actors()).all(|actor| {
            let done = matches!(view.local(actor).role, Role::Consume) || view.is_idle(actor);
            done || view.is_dead(actor) || !self.may_start(view, actor)
        });
        pushed && (0..self.slots).all(|slot| self.state(view, slot).phase() == Phase::Free)
    }

    fn sights(&self, view: &View<'_, Self>) -> u32 {
        let ghost = view.ghost();
        let mortal = self.options.kills > 0;
        let returns = mortal || self.roles.contains(&Role::PutBack);
        let joined = (self.roles.len()..self.processes())
            .any(|actor| view.local(actor).stage != Stage::Outside);
        [
            !ghost.committed.is_empty(),
            ghost.redelivered || !returns,
            ghost.skipped || !mortal,
            joined || self.newcomers.is_empty(),
        ]
        .into_iter()
        .enumerate()
        .fold(0, |bits, (n, seen)| bits | u32::from(seen) << n)
    }

    fn name_of(&self, at: usize) -> String {
        match at.checked_sub(self.ring_at()) {
            None if at.is_multiple_of(ROW) => format!("row {} state", at / ROW + 1),
            None => format!("row {} identity", at / ROW + 1),
            Some(field::TAIL) => "tail".into(),
            Some(field::HEAD) => "head".into(),
            Some(field::ITEMS) => "items".into(),
            Some(field::CLOSED) => "closed".into(),
            Some(field::SPACE) => "space".into(),
            Some(_) => match self.slot_at(at) {
                Some((slot, 0)) => format!("slot {slot} word"),
                Some((slot, offset)) => format!("slot {slot} payload {}", offset / 8 - 1),
                None => format!("word {at}"),
            },
        }
    }
}

impl MpmcCase {
    fn new(slots: usize, roles: &[Role]) -> Self {
        Self {
            slots,
            roles: roles.to_vec(),
            newcomers: Vec::new(),
            lend: false,
            batch: false,
            wait: false,
            base: 0,
            options: Options {
                gone: false,
                ..Options::default()
            },
        }
    }

    fn kills(mut self, kills: u8, newcomers: &[Role]) -> Self {
        self.options.kills = kills;
        self.newcomers = newcomers.to_vec();
        self
    }
}

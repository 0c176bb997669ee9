//! Barriers: members that meet, give up and die anywhere, and newcomers that take the seats of the dead.
//!
//! What must hold: a round is complete only when all seats have arrived for it, all who waited for a round are told the
//! same of it, a seat is never taken from the living, and nobody waits for the dead.

use std::time::Duration;

use ipc_core::event::Wait;
use ipc_core::memory::Area;
use ipc_core::sync::{BarrierError, Seats};

use super::super::{Actor, Case, Explored, Options, Step, Timeouts, View, What};
use super::Entry;
use super::sync::{id, if_gone};

const TURN: usize = 8;
const SEATS: usize = 128;

/// Members of one barrier.
pub struct BarrierCase {
    seats: usize,
    /// What each of those does who are there from the beginning.
    members: Vec<Role>,
    /// Those who come when the first of them has died, who is the only one that does: each waits for one round, and gives up where nobody else comes.
    newcomers: usize,
    options: Options,
}

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Waits until so many rounds are complete.
    Meet(u8),
    /// Waits once with a deadline that is over, then until so many rounds are complete.
    Hurry(u8),
    /// Waits until a round is complete, or nothing happens any more.
    Try,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    role: Role,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// To take a seat.
    Outside,
    /// Has that seat, and what the last wait came to: true if the round was complete.
    Seated(usize, Option<bool>),
    /// Has stood up.
    Done,
}

impl Local {
    /// Whether he has had what he came for, and stands up.
    fn is_done(&self) -> bool {
        match (self.role, self.stage) {
            (Role::Meet(left), _) => left == 0,
            (Role::Try, Stage::Seated(_, last)) => last == Some(true),
            _ => false,
        }
    }
}

/// What the judge remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// Rounds that are over, by their turn, and whether they were complete.
    rounds: Vec<(u64, bool)>,
    /// The turn that each process has arrived for.
    arrived: [u64; 4],
    /// How many rounds were over when each process was killed.
    killed: [usize; 4],
    /// Whether a seat of the dead was freed.
    freed: bool,
}

impl BarrierCase {
    fn is_newcomer(&self, actor: usize) -> bool {
        actor >= self.members.len()
    }

    /// The participant in a seat, and whether he has arrived for `turn`.
    fn seat(word: u64, turn: u64) -> (u64, bool) {
        let low = (1 << 25) - 1;
        let arrived = word >> 39 == turn >> 32 & low && word >> 14 & low == turn & low;
        (word & 0x3fff, arrived)
    }
}

impl Case for BarrierCase {
    type Local = Local;
    type Ghost = Ghost;

    const SIGHTS: &'static [&'static str] = &[
        "a member asleep",
        "a complete round",
        "a broken round",
        "a complete round behind a broken one",
        "a seat of the dead freed",
    ];

    fn options(&self) -> Options {
        Options {
            len: SEATS + 8 * self.seats,
            ..self.options
        }
    }

    fn actors(&self) -> Vec<Actor<Local>> {
        let members = self.members.iter().map(|&role| ("member", role));
        let newcomers = (0..self.newcomers).map(|_| ("newcomer", Role::Try));
        let actor = |(process, (name, role)): (usize, (&str, Role))| {
            let stage = Stage::Outside;
            Actor::new(format!("{name} {process}"), process, Local { role, stage })
        };
        members.chain(newcomers).enumerate().map(actor).collect()
    }

    fn operate(&self, actor: usize, memory: &Explored, local: &Local) -> Option<Local> {
        let area = Area::new(memory.clone(), 0, self.options().len).expect("fits");
        let seats = Seats::new(&area, self.seats).expect("fits");
        let me = id(actor);
        let recover = |dead| if_gone(memory, dead, || seats.recover(dead));
        let mut role = local.role;
        let stage = match local.stage {
            Stage::Done => return None,
            Stage::Outside => {
                // As `Barrier::sit`; where all seats are taken, once more.
                let seat = seats.sit(me).or_else(|| {
                    let seated: Vec<_> = seats.seated().collect();
                    seated.into_iter().for_each(recover);
                    seats.sit(me)
                });
                seat.map_or(Stage::Outside, |seat| Stage::Seated(seat, None))
            }
            Stage::Seated(seat, _) if local.is_done() => {
                seats.stand(me, seat);
                Stage::Done
            }
            Stage::Seated(seat, _) => {
                let deadline = match role {
                    Role::Meet(_) => None,
                    Role::Hurry(_) => Some(Duration::ZERO),
                    // The first sleep that ends by itself.
                    Role::Try => Some(Duration::from_millis(1)),
                };
                let outcome = seats.wait(me, seat, Wait::Block, deadline, recover);
                role = match (role, &outcome) {
                    (Role::Meet(left), Ok(_)) => Role::Meet(left - 1),
                    (Role::Hurry(left), Ok(_)) => Role::Meet(left - 1),
                    (Role::Hurry(left), Err(_)) => Role::Meet(left),
                    (Role::Try, Err(BarrierError::TimedOut)) => Role::Meet(0),
                    (role, _) => role,
                };
                Stage::Seated(seat, Some(outcome.is_ok()))
            }
        };
        Some(Local { role, stage })
    }

    fn may_start(&self, view: &View<'_, Self>, actor: usize) -> bool {
        !self.is_newcomer(actor) || (0..view.processes()).any(|process| view.is_dead(process))
    }

    fn may_be_killed(&self, process: usize) -> bool {
        process == 0
    }

    fn watch(&self, step: &Step<'_, Self>, ghost: &mut Ghost) -> Result<(), String> {
        if let What::Killed { .. } = step.what {
            ghost.killed[step.process] = ghost.rounds.len();
        }
        match step.what.stored() {
            Some((TURN, new)) => {
                let turn = step.before;
                let complete = new >> 32 != turn >> 32;
                if complete {
                    for seat in 0..self.seats {
                        let (holder, arrived) =
                            Self::seat(step.from.word64(SEATS + 8 * seat), turn);
                        if holder == 0 || !arrived {
                            return Err(format!(
                                "a round ended, for which seat {seat} has not arrived"
                            ));
                        }
                    }
                }
                ghost.rounds.push((turn, complete));
            }
            Some((at, new)) if at >= SEATS => {
                let turn = step.from.word64(TURN);
                let me = step.process as u64 + 1;
                let ((old, _), (new, _)) = (Self::seat(step.before, turn), Self::seat(new, turn));
                if new == me && (old == 0 || old == me) {
                    // Which turn he means is in the word; no case has as many rounds as a byte can count.
                    let word = step.to.word64(at);
                    ghost.arrived[step.process] = word >> 39 << 32 | word >> 14 & 0xff;
                } else if new != 0 || old == 0 {
                    return Err(format!("the seat of {old} became that of {new}"));
                } else if old == me {
                    let actor = step.actor;
                    if !actor.is_some_and(|actor| step.from.local(actor).is_done()) {
                        return Err(format!("{old} was taken off its seat"));
                    }
                } else {
                    if !step.from.is_dead(old as usize - 1) {
                        return Err(format!("the seat of {old}, who lives, was freed"));
                    }
                    let since = ghost.killed[old as usize - 1];
                    if ghost.rounds[since..].iter().all(|(_, complete)| *complete) {
                        return Err(format!("the death of {old} has broken no round"));
                    }
                    ghost.freed = true;
                }
            }
            _ => {}
        }
        if let (Some(actor), true) = (step.actor, step.what.returned())
            && let Stage::Seated(_, Some(complete)) = step.to.local(actor).stage
        {
            let turn = ghost.arrived[step.process];
            let told = ghost.rounds.iter().find(|(of, _)| *of == turn);
            if told != Some(&(turn, complete)) {
                return Err(format!(
                    "process {} was told {complete} of round {turn:#x}, which is {told:?}",
                    step.process
                ));
            }
        }
        Ok(())
    }

    fn good(&self, view: &View<'_, Self>) -> bool {
        let absent = |actor| self.is_newcomer(actor) && !self.may_start(view, actor);
        (0..view.actors()).all(|actor| {
            view.is_idle(actor) || view.is_dead(view.process_of(actor)) || absent(actor)
        })
    }

    fn sights(&self, view: &View<'_, Self>) -> u32 {
        let rounds = &view.ghost().rounds;
        let hurried = self
            .members
            .iter()
            .any(|role| matches!(role, Role::Hurry(_)));
        let mortal = self.options.kills > 0;
        let broken = rounds.iter().position(|(_, complete)| !complete);
        let mended = broken.is_some_and(|at| rounds[at..].iter().any(|(_, complete)| *complete));
        [
            self.seats == 1 || (0..view.actors()).any(|actor| view.is_asleep(actor)),
            rounds.iter().any(|(_, complete)| *complete),
            broken.is_some() || !hurried && !mortal,
            mended || !hurried && self.newcomers == 0,
            view.ghost().freed || !mortal,
        ]
        .into_iter()
        .enumerate()
        .fold(0, |bits, (n, seen)| bits | u32::from(seen) << n)
    }

    fn name_of(&self, at: usize) -> String {
        match at {
            0 => "changed".into(),
            TURN => "turn".into(),
            at => format!("seat {}", (at - SEATS) / 8),
        }
    }
}

pub(super) fn entries() -> Vec<Entry> {
    use Role::{Hurry, Meet, Try};
    let case = |members: &[Role], kills, newcomers, timeouts| BarrierCase {
        seats: members.len(),
        members: members.to_vec(),
        newcomers,
        options: Options {
            kills,
            timeouts,
            ..Options::default()
        },
    };
    vec![
        Entry::quick(
            "barrier/two members, two rounds, no timeouts",
            case(&[Meet(2), Meet(2)], 0, 0, Timeouts::Never),
        ),
        Entry::quick(
            "barrier/two members, one in a hurry, no timeouts",
            case(&[Meet(1), Hurry(1)], 0, 0, Timeouts::Never),
        ),
        Entry::long(
            "barrier/three members, no timeouts",
            case(&[Meet(1), Meet(1), Meet(1)], 0, 0, Timeouts::Never),
        ),
        Entry::quick(
            "barrier/one seat, one kill, a newcomer",
            case(&[Meet(1)], 1, 1, Timeouts::WhenStuck),
        ),
        Entry::quick(
            "barrier/two members, one kill",
            case(&[Meet(1), Try], 1, 0, Timeouts::WhenStuck),
        ),
    ]
}

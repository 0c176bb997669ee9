//! Participants: members join, claim a word, give it back and leave, while fate kills them and recoverers clear up.
//!
//! The claim word stands for every place in a ring that names a participant. What must hold, besides that nothing
//! wedges: a claim never names a free row, nor a newcomer that did not make it; and nothing is taken from a process that
//! lives, stopped or not.

use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Release};

use ipc_core::memory::Area;
use ipc_core::participant::{Life, ParticipantId, Participants, ROW};

use super::super::{Actor, Case, Explored, Options, Step, View};
use super::Entry;

/// Members, recoverers and observers of one table.
pub struct ParticipantCase {
    rows: usize,
    /// How often each member joins.
    members: Vec<u8>,
    /// Members that join once, when somebody has died.
    newcomers: usize,
    recoverers: usize,
    observers: usize,
    /// Only members die.
    spare_recoverers: bool,
    options: Options,
}

/// Where an actor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Local {
    /// Outside, to join so often.
    Outside(u8),
    /// Joined, without a claim.
    Joined(u8, ParticipantId),
    /// Has the claim word.
    Claimed(u8, ParticipantId),
    /// About to leave.
    Leaving(u8, ParticipantId),
    /// Clears up for ever; the row it comes to next.
    Recoverer(u16),
    /// Looks at row 1 for ever; the process it last found dead there.
    Observer(Option<u32>),
}

/// Who is behind each number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// The process that took each row.
    holders: [Option<usize>; 4],
    /// The process that made the claim.
    claimant: Option<usize>,
    /// How many rows were cleared after a death.
    recovered: u8,
}

const SIGHT_RECOVERED: u32 = 1;
const SIGHT_CLAIM_OF_DEAD: u32 = 2;
const SIGHT_REUSED: u32 = 4;

impl ParticipantCase {
    fn newcomers(&self) -> Range<usize> {
        self.members.len()..self.members.len() + self.newcomers
    }

    fn claim_at(&self) -> usize {
        self.rows * ROW
    }

    /// The row whose state word is at `at`.
    fn row_at(&self, at: usize) -> Option<usize> {
        (at < self.claim_at() && at.is_multiple_of(ROW)).then_some(at / ROW)
    }
}

impl Case for ParticipantCase {
    type Local = Local;
    type Ghost = Ghost;

    const SIGHTS: &'static [&'static str] = &[
        "a row recovered",
        "a claim of a dead process",
        "a recovered row taken again",
    ];

    fn options(&self) -> Options {
        Options {
            len: self.claim_at() + 8,
            ..self.options
        }
    }

    fn actors(&self) -> Vec<Actor<Local>> {
        let members = self
            .members
            .iter()
            .map(|&times| ("member", Local::Outside(times)));
        let recoverers = (0..self.recoverers).map(|_| ("recoverer", Local::Recoverer(1)));
        let observers = (0..self.observers).map(|_| ("observer", Local::Observer(None)));
        let newcomers = (0..self.newcomers).map(|_| ("newcomer", Local::Outside(1)));
        members
            .chain(newcomers)
            .chain(recoverers)
            .chain(observers)
            .enumerate()
            .map(|(process, (name, start))| Actor::new(format!("{name} {process}"), process, start))
            .collect()
    }

    fn operate(&self, _: usize, memory: &Explored, local: &Local) -> Option<Local> {
        let area = Area::new(memory.clone(), 0, self.claim_at()).expect("fits");
        let claim = Area::new(memory.clone(), self.claim_at(), 8)
            .expect("fits")
            .word64(0)
            .expect("fits");
        let table = Participants::new(area).expect("fits");
        let resolve = |id: ParticipantId| {
            if claim.load(Acquire) == u64::from(id.get()) {
                // A failure means that the dead one's claim was resolved by a recoverer that is dead by now.
                let _ = claim.exchange(id.get().into(), 0, Release);
            }
            true
        };
        Some(match *local {
            Local::Outside(0) => return None,
            Local::Outside(times) => match table.join(resolve) {
                Ok(id) => Local::Joined(times - 1, id),
                // All places are taken: try again.
                Err(_) => *local,
            },
            Local::Joined(times, id) => match claim.exchange(0, id.get().into(), Acquire) {
                Ok(_) => Local::Claimed(times, id),
                Err(_) => Local::Leaving(times, id),
            },
            Local::Claimed(times, id) => {
                claim.store(0, Release);
                Local::Leaving(times, id)
            }
            Local::Leaving(times, id) => {
                table.leave(id);
                Local::Outside(times)
            }
            Local::Recoverer(row) => {
                table.recover(ParticipantId::new(row.into()).expect("a number"), resolve);
                Local::Recoverer(row % table.capacity() + 1)
            }
            Local::Observer(_) => {
                let id = ParticipantId::new(1).expect("a number");
                Local::Observer(match table.life(id) {
                    Life::Dead(who) => Some(who.pid - 1),
                    Life::Free | Life::Alive(_) => None,
                })
            }
        })
    }

    fn may_start(&self, view: &View<'_, Self>, actor: usize) -> bool {
        !self.newcomers().contains(&actor)
            || (0..view.processes()).any(|process| view.is_dead(process))
    }

    fn may_be_killed(&self, process: usize) -> bool {
        let members = self.newcomers().end;
        process < members || (!self.spare_recoverers && process < members + self.recoverers)
    }

    fn may_be_frozen(&self, process: usize) -> bool {
        process < self.members.len()
    }

    fn watch(&self, step: &Step<'_, Self>, ghost: &mut Ghost) -> Result<(), String> {
        let Some((at, value)) = step.what.stored() else {
            return Ok(());
        };
        let lives =
            |process: Option<usize>| process.is_some_and(|process| !step.to.is_dead(process));
        if let Some(row) = self.row_at(at) {
            let holder = ghost.holders[row];
            if value & 1 != 0 {
                if holder.is_some() {
                    return Err(format!("row {} was taken from process {holder:?}", row + 1));
                }
                ghost.holders[row] = Some(step.process);
            } else {
                if holder != Some(step.process) {
                    if lives(holder) {
                        return Err(format!(
                            "row {} was cleared though process {holder:?} lives",
                            row + 1
                        ));
                    }
                    ghost.recovered += 1;
                }
                ghost.holders[row] = None;
            }
        } else if at == self.claim_at() {
            if value == 0 && ghost.claimant != Some(step.process) && lives(ghost.claimant) {
                return Err(format!(
                    "the claim of process {:?} was resolved though it lives",
                    ghost.claimant
                ));
            }
            ghost.claimant = (value != 0).then_some(step.process);
        }
        Ok(())
    }

    fn check(&self, view: &View<'_, Self>) -> Result<(), String> {
        let claim = view.word64(self.claim_at());
        let ghost = view.ghost();
        if claim != 0 {
            let row = claim as usize - 1;
            if view.word64(row * ROW) & 1 == 0 {
                return Err(format!("the claim names row {claim}, which is free"));
            }
            if ghost.holders[row] != ghost.claimant {
                return Err(format!(
                    "the claim of process {:?} names row {claim}, which process {:?} has now",
                    ghost.claimant, ghost.holders[row]
                ));
            }
        }
        let mut taken = [None; 4];
        for actor in (0..view.actors()).filter(|&actor| !view.is_dead(view.process_of(actor))) {
            match *view.local(actor) {
                Local::Joined(_, id) | Local::Claimed(_, id) | Local::Leaving(_, id) => {
                    if let Some(other) = taken[usize::from(id.get()) - 1].replace(actor) {
                        return Err(format!(
                            "actors {other} and {actor} both have row {}",
                            id.get()
                        ));
                    }
                }
                Local::Observer(Some(found)) if !view.is_dead(found as usize) => {
                    return Err(format!("process {found} was declared dead, and lives"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn good(&self, view: &View<'_, Self>) -> bool {
        let members_done = (0..self.members.len())
            .all(|member| view.is_idle(member) || view.is_dead(member) || view.is_frozen(member));
        let frozen =
            |process: Option<usize>| process.is_some_and(|process| view.is_frozen(process));
        let ghost = view.ghost();
        members_done
            && (view.word64(self.claim_at()) == 0 || frozen(ghost.claimant))
            && (0..self.rows)
                .all(|row| view.word64(row * ROW) & 1 == 0 || frozen(ghost.holders[row]))
    }

    fn sights(&self, view: &View<'_, Self>) -> u32 {
        if self.options.kills == 0 {
            return u32::MAX;
        }
        let ghost = view.ghost();
        let mut sights = if self.newcomers().end == 1 {
            SIGHT_REUSED
        } else {
            0
        };
        if ghost.recovered > 0 {
            sights |= SIGHT_RECOVERED;
            let used =
                |row: &usize| view.word64(row * ROW) & 1 != 0 && view.word64(row * ROW) >> 1 > 1;
            if (0..self.rows).any(|row| used(&row)) {
                sights |= SIGHT_REUSED;
            }
        }
        if ghost.claimant.is_some_and(|process| view.is_dead(process)) {
            sights |= SIGHT_CLAIM_OF_DEAD;
        }
        sights
    }

    fn name_of(&self, at: usize) -> String {
        match at {
            at if at == self.claim_at() => "claim".into(),
            at if at % ROW == 0 => format!("row {} state", at / ROW + 1),
            at => format!("row {} identity {}", at / ROW + 1, at % ROW / 8 - 1),
        }
    }
}

pub(super) fn entries() -> Vec<Entry> {
    let case = |members: &[u8], newcomers, recoverers, kills| ParticipantCase {
        rows: 1,
        members: members.to_vec(),
        newcomers,
        recoverers,
        observers: 0,
        spare_recoverers: false,
        options: Options {
            kills,
            ..Options::default()
        },
    };
    let spared = |case| ParticipantCase {
        spare_recoverers: true,
        ..case
    };
    let rows = |rows, case| ParticipantCase { rows, ..case };
    let options = |options: &dyn Fn(&mut Options), mut case: ParticipantCase| {
        options(&mut case.options);
        case
    };
    let strays = |case| options(&|options| options.strays = true, case);
    let blind = |case| options(&|options| options.gone = false, case);
    let frozen = |case| options(&|options| options.freezes = 1, case);
    let observed = |case| ParticipantCase {
        observers: 1,
        ..case
    };
    vec![
        Entry::quick("participants/nobody dies", case(&[1, 1], 0, 1, 0)),
        Entry::quick("participants/a newcomer recovers", case(&[1], 1, 0, 1)),
        Entry::quick(
            "participants/a recoverer, one kill",
            spared(case(&[1, 1], 0, 1, 1)),
        ),
        Entry::quick(
            "participants/two recoverers, two kills",
            case(&[1], 0, 2, 2),
        ),
        Entry::long(
            "participants/two recoverers and a newcomer",
            case(&[1], 1, 2, 1),
        ),
        Entry::quick(
            "participants/only the lock tells of a death",
            blind(case(&[1], 1, 1, 1)),
        ),
        Entry::quick(
            "participants/stray children, two rows",
            rows(2, strays(case(&[1], 1, 1, 1))),
        ),
        Entry::quick(
            "participants/one stopped, one killed",
            rows(2, frozen(case(&[1, 1], 0, 1, 1))),
        ),
        Entry::quick("participants/an observer", observed(case(&[1], 0, 1, 1))),
        Entry::long(
            "participants/joining twice, two kills",
            spared(case(&[2], 1, 1, 2)),
        ),
        Entry::long(
            "participants/two rows, two members, stray children",
            rows(2, strays(spared(case(&[1, 1], 0, 1, 2)))),
        ),
        Entry::long(
            "participants/two rows, stray children, two kills",
            rows(2, strays(case(&[1], 1, 2, 2))),
        ),
    ]
}

impl ParticipantCase {
    /// Recoverers that are killed leave a forked child, which keeps the life byte. If it `keeps_recovery` too, nobody else
    /// can recover that row for as long as the child lives: must fail.
    pub fn stray_child_of_a_recoverer(keeps_recovery: bool) -> Self {
        let options = Options {
            kills: 2,
            strays: true,
            strays_keep_recovery: keeps_recovery,
            ..Options::default()
        };
        Self {
            rows: 2,
            members: vec![1],
            newcomers: 0,
            recoverers: 2,
            observers: 0,
            spare_recoverers: false,
            options,
        }
    }
}

//! Read-write locks: readers and writers that die anywhere, and those who come after them.
//!
//! What must hold: a writer is alone inside, nobody is left asleep beside a lock that he could have, no count of readers is
//! changed for the living, and whoever comes after a writer that died inside is told, until the value is repaired.

use std::sync::atomic::Ordering::Relaxed;

use ipc_core::event::Wait;
use ipc_core::memory::Area;
use ipc_core::sync::Readers;
use ipc_core::sync::lock::{Leave, Lock, Taken};

use super::super::{Actor, Case, Explored, Options, Step, Timeouts, View, What};
use super::Entry;
use super::sync::{id, if_gone};

/// Offsets: the lock, the event of leaving readers, a word to touch, and the counts of readers.
const LOCK: usize = 0;
const LEFT: usize = 4;
const TOUCHED: usize = 8;
const COUNTS: usize = 128;
const STRIDE: usize = 64;

/// Readers and writers of one lock.
pub struct RwLockCase {
    /// How often each of the first ones reads.
    readers: Vec<u8>,
    /// How often each of the others writes.
    writers: Vec<u8>,
    options: Options,
}

/// Where an actor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    writes: bool,
    left: u8,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Outside,
    /// Has the lock, and whether it was told of a death.
    Inside(bool),
    Leaving,
    /// Was told of a death, and did not get in: a reader.
    Told,
}

/// Whether a writer died inside, and the value has not been repaired since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    broken: bool,
    /// Whether a reader's count was cleared after its death.
    recovered: bool,
}

impl RwLockCase {
    fn processes(&self) -> usize {
        self.readers.len() + self.writers.len()
    }

    fn inside<'v>(&self, view: View<'v, Self>) -> impl Iterator<Item = &'v Local> + use<'v> {
        let lives = move |actor: &usize| !view.is_dead(view.process_of(*actor));
        let locals = (0..view.actors())
            .filter(lives)
            .map(move |actor| view.local(actor));
        locals.filter(|local| matches!(local.stage, Stage::Inside(_)))
    }
}

impl Case for RwLockCase {
    type Local = Local;
    type Ghost = Ghost;

    const SIGHTS: &'static [&'static str] = &[
        "somebody asleep",
        "a dead reader cleared",
        "a dead writer told of",
    ];

    fn options(&self) -> Options {
        Options {
            len: COUNTS + STRIDE * self.processes(),
            ..self.options
        }
    }

    fn actors(&self) -> Vec<Actor<Local>> {
        let local = |writes, left| Local {
            writes,
            left,
            stage: Stage::Outside,
        };
        let readers = self.readers.iter().map(|&left| local(false, left));
        let writers = self.writers.iter().map(|&left| local(true, left));
        let actor = |(process, local): (usize, Local)| {
            let what = if local.writes { "writer" } else { "reader" };
            Actor::new(format!("{what} {process}"), process, local)
        };
        readers.chain(writers).enumerate().map(actor).collect()
    }

    fn operate(&self, actor: usize, memory: &Explored, local: &Local) -> Option<Local> {
        let area = Area::new(memory.clone(), 0, self.options().len).expect("fits");
        let readers = Readers::new(&area, self.processes()).expect("fits");
        let me = id(actor);
        let recover = |dead| if_gone(memory, dead, || readers.recover(dead));
        let touch = || area.word64(TOUCHED).expect("fits").store(1, Relaxed);
        let stage = match (local.stage, local.writes) {
            (Stage::Outside | Stage::Told, _) if local.left == 0 => return None,
            (Stage::Outside | Stage::Told, false) => {
                match readers.read(me, Wait::Block, None, recover) {
                    Ok(Taken::Clean) => Stage::Inside(false),
                    Ok(Taken::OwnerDied) => Stage::Told,
                    Err(refused) => panic!("refused by {refused:?}"),
                }
            }
            (Stage::Outside | Stage::Told, true) => {
                match readers.write(me, Wait::Block, None, recover) {
                    Ok(taken) => Stage::Inside(taken == Taken::OwnerDied),
                    Err(refused) => panic!("refused by {refused:?}"),
                }
            }
            (Stage::Inside(died), writes) => {
                touch();
                if died && writes {
                    Lock::new(&area, LOCK).expect("fits").mark_consistent();
                }
                Stage::Leaving
            }
            (Stage::Leaving, false) => {
                readers.leave(me);
                Stage::Outside
            }
            (Stage::Leaving, true) => {
                Lock::new(&area, LOCK)
                    .expect("fits")
                    .unlock(me, Leave::Free);
                Stage::Outside
            }
        };
        let begins = matches!(stage, Stage::Inside(_) | Stage::Told);
        Some(Local {
            left: local.left - u8::from(begins),
            stage,
            ..*local
        })
    }

    fn watch(&self, step: &Step<'_, Self>, ghost: &mut Ghost) -> Result<(), String> {
        if let What::Killed { .. } = step.what {
            let actor = step.process;
            let local = step.from.local(actor);
            ghost.broken |= local.writes && local.stage == Stage::Inside(false);
        }
        if let Some((at, new)) = step.what.stored()
            && at >= COUNTS
        {
            let owner = (at - COUNTS) / STRIDE;
            if owner != step.process {
                if !step.from.is_dead(owner) || new != 0 {
                    return Err(format!("the count of reader {owner} became {new}"));
                }
                ghost.recovered |= step.before as u32 != 0;
            }
        }
        if let (Some(actor), true) = (step.actor, step.what.returned()) {
            let local = *step.to.local(actor);
            match (local.stage, local.writes) {
                (Stage::Inside(false), _) if ghost.broken => {
                    return Err("the death of a writer was not told".into());
                }
                (Stage::Inside(true), true) => ghost.broken = false,
                _ => {}
            }
        }
        Ok(())
    }

    fn check(&self, view: &View<'_, Self>) -> Result<(), String> {
        let (writers, readers): (Vec<&Local>, Vec<&Local>) =
            self.inside(*view).partition(|local| local.writes);
        if writers.len() > 1 || !writers.is_empty() && !readers.is_empty() {
            return Err(format!(
                "{} writers and {} readers are inside together",
                writers.len(),
                readers.len()
            ));
        }
        Ok(())
    }

    fn good(&self, view: &View<'_, Self>) -> bool {
        let free = |process| view.is_dead(process) || view.word32(COUNTS + STRIDE * process) == 0;
        view.all_done() && (0..self.processes()).all(free)
    }

    fn sights(&self, view: &View<'_, Self>) -> u32 {
        let mortal = self.options.kills > 0;
        let told = |actor: usize| {
            let local = view.local(actor);
            local.stage == Stage::Told || local.writes && local.stage == Stage::Inside(true)
        };
        [
            (0..view.actors()).any(|actor| view.is_asleep(actor)),
            !mortal || view.ghost().recovered,
            !mortal || (0..view.actors()).any(told),
        ]
        .into_iter()
        .enumerate()
        .fold(0, |bits, (n, seen)| bits | u32::from(seen) << n)
    }

    fn name_of(&self, at: usize) -> String {
        match at {
            LOCK => "lock".into(),
            LEFT => "left".into(),
            TOUCHED => "inside".into(),
            at => format!("readers of process {}", (at - COUNTS) / STRIDE),
        }
    }
}

pub(super) fn entries() -> Vec<Entry> {
    let case = |readers: &[u8], writers: &[u8], kills, timeouts| RwLockCase {
        readers: readers.to_vec(),
        writers: writers.to_vec(),
        options: Options {
            kills,
            timeouts,
            ..Options::default()
        },
    };
    vec![
        Entry::quick(
            "rwlock/one reader, one writer, no timeouts",
            case(&[2], &[2], 0, Timeouts::Never),
        ),
        Entry::quick(
            "rwlock/two writers, no timeouts",
            case(&[], &[1, 1], 0, Timeouts::Never),
        ),
        Entry::quick(
            "rwlock/one reader, one writer, one kill",
            case(&[2], &[2], 1, Timeouts::WhenStuck),
        ),
    ]
}

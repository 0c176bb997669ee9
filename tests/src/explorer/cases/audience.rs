//! Who comes to a broadcast ring, whatever lies in it, and how each of them waits.

use std::time::Duration;

use ipc_core::memory::{LockByte, Memory as _};
use ipc_core::participant::ParticipantId;
use ipc_ring::side::{Refusal, Side, Whole};

use super::super::Explored;

/// How the last holder of a role ended, and who holds it.
pub(super) const DIED: u64 = 2 << 14;
pub(super) const HOLDER: u64 = (1 << 14) - 1;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// Pushes what has not been pushed.
    Produce,
    /// The same, after the process before it.
    ProduceOn,
    /// Takes everything.
    Lossless,
    /// Comes when the process before it has died, and goes on where that stopped.
    Successor,
    /// May miss messages.
    Lossy,
    /// Takes the newest ones.
    Latest,
}

/// The row of a lossless reader: the first one, if it is the first of its kind. A successor has that of the dead.
pub(super) fn row(roles: &[Role], process: usize) -> usize {
    rows(&roles[..process]) - usize::from(roles[process] == Role::Successor)
}

/// How many rows of lossless readers there are.
pub(super) fn rows(roles: &[Role]) -> usize {
    let lossless = roles.iter().filter(|role| **role == Role::Lossless);
    lossless.count()
}

pub(super) fn id(process: usize) -> ParticipantId {
    ParticipantId::new(process as u64 + 1).expect("a number")
}

/// Clears up after a process if it has died, as whoever is held up by it does.
pub(super) fn recover(ring: &impl Whole, memory: &Explored, dead: ParticipantId) {
    let number = dead.get();
    if memory.is_locked(LockByte::Life(number)) || !memory.try_lock(LockByte::Recovery(number)) {
        return;
    }
    ring.recover(dead);
    memory.unlock(LockByte::Recovery(number));
}

/// Repeats the attempt until it is not refused for now, sleeping meanwhile.
pub(super) fn wait<S: Side<Memory = Explored>, T>(
    ring: &impl Whole,
    memory: &Explored,
    side: &mut S,
    mut tries: Option<u32>,
    mut attempt: impl FnMut(&mut S) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    loop {
        let mut held_up_by = None;
        let mut once = |side: &mut S| match attempt(side) {
            Err(Refusal::NotYet) => None,
            Err(Refusal::Watch(by)) => {
                held_up_by = Some(by);
                None
            }
            other => Some(other),
        };
        if let Some(outcome) = once(side) {
            return outcome;
        }
        match &mut tries {
            Some(0) => return Err(Refusal::NotYet),
            Some(left) => {
                *left -= 1;
                continue;
            }
            None => {}
        }
        let prepared = side.event().prepare();
        if let Some(outcome) = once(side) {
            return outcome;
        }
        side.event().sleep(prepared, Duration::MAX);
        if let Some(by) = held_up_by {
            recover(ring, memory, by);
        }
    }
}

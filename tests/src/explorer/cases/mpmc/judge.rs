//! The judge of MPMC rings: what the word of a slot may become, and who may touch a payload.

use ipc_ring::mpmc::geometry::{Geometry, Phase, State};

use super::super::super::{Step, View};
use super::{Ghost, MpmcCase, Role, field};

impl MpmcCase {
    pub(super) fn geometry(&self) -> Geometry {
        Geometry::new(self.slots).expect("a power of two")
    }

    /// The word of a slot.
    pub(super) fn state(&self, view: &View<'_, Self>, slot: usize) -> State {
        State(view.word64(self.ring_at() + field::SLOTS + slot * field::STRIDE))
    }

    /// The position that a slot is at, counted from the base.
    pub(super) fn position(&self, slot: usize, state: State) -> u64 {
        let lap = state.0 >> 17;
        let base = self.base / self.slots as u64;
        // The lap is kept in 47 bits.
        (lap.wrapping_sub(base) & ((1 << 47) - 1)) * self.slots as u64 + slot as u64
    }

    /// The slot and the offset in it of a place in memory.
    pub(super) fn slot_at(&self, at: usize) -> Option<(usize, usize)> {
        let at = at.checked_sub(self.ring_at() + field::SLOTS)?;
        Some((at / field::STRIDE, at % field::STRIDE))
    }

    /// Whether what the actor may be told, "empty" or "full", is true in this state.
    pub(super) fn is_refusal_true(&self, view: &View<'_, Self>, ghost: &Ghost, role: Role) -> bool {
        match role {
            Role::Produce(_) | Role::Abort(_) => {
                let position = self.base.wrapping_add(ghost.claimed);
                let slot = ghost.claimed as usize % self.slots;
                !self.geometry().is_free(self.state(view, slot), position)
            }
            _ => (0..self.slots).all(|slot| self.state(view, slot).phase() != Phase::Full),
        }
    }

    /// Judges a change of the word of a slot.
    pub(super) fn judge_word(
        &self,
        step: &Step<'_, Self>,
        ghost: &mut Ghost,
        slot: usize,
        new: State,
    ) -> Result<(), String> {
        let old = State(step.before);
        let (from, to) = (self.position(slot, old), self.position(slot, new));
        let owner = ghost.owners[slot];
        let owned = matches!(old.phase(), Phase::Writing | Phase::Reading);
        let recovers = owned && owner != step.process;
        if recovers && !step.from.is_dead(owner) {
            return Err(format!(
                "I3: the claim of process {owner}, which lives, was taken from it"
            ));
        }
        if from % self.slots as u64 != to % self.slots as u64
            || to < from
            || to > from + self.slots as u64
        {
            return Err(format!("I1: the slot went from position {from} to {to}"));
        }
        match (old.phase(), new.phase()) {
            (Phase::Free, Phase::Writing) if to == from => {
                if from != ghost.claimed {
                    return Err(format!(
                        "I2: position {from} was claimed before {}",
                        ghost.claimed
                    ));
                }
                ghost.claimed += 1;
                ghost.owners[slot] = step.process;
                ghost.touched[slot] = 0;
            }
            (Phase::Writing, Phase::Full) if to == from && !recovers => {
                let at = self.ring_at() + field::SLOTS + slot * field::STRIDE + field::PAYLOAD;
                let (value, check) = (step.to.word64(at), step.to.word64(at + 8));
                if check != !value
                    || value >> 8 != step.process as u64 + 1
                    || ghost.touched[slot] != 3
                {
                    return Err(format!(
                        "P2: published {value:#x} {check:#x}, which is torn or another's"
                    ));
                }
                ghost.published.push((from, value));
                ghost.published.sort_unstable();
            }
            (Phase::Writing, Phase::Free) if to != from && new.is_skipped() => ghost.skipped = true,
            (Phase::Full, Phase::Reading) if to == from => {
                let overtaken = |other: usize| {
                    let state = self.state(&step.to, other);
                    let waits = state.phase() == Phase::Writing
                        || state.phase() == Phase::Full && !state.is_again();
                    waits && self.position(other, state) < from
                };
                if !old.is_again() && (0..self.slots).any(overtaken) {
                    return Err(format!("P3: position {from} was taken before an older one"));
                }
                ghost.owners[slot] = step.process;
                ghost.touched[slot] = 0;
            }
            (Phase::Reading, Phase::Full) if to == from && new.is_again() => {
                ghost.redelivered = true;
                ghost.excused = u8::MAX;
            }
            (Phase::Reading, Phase::Free) if to != from && !recovers && !new.is_skipped() => {
                if ghost.touched[slot] != 3 {
                    return Err("P2: committed before all of it was read".into());
                }
                if ghost.committed.contains(&from)
                    || !ghost.published.iter().any(|&(at, _)| at == from)
                {
                    return Err(format!(
                        "P1: position {from} was committed twice, or never published"
                    ));
                }
                ghost.committed.push(from);
                ghost.committed.sort_unstable();
            }
            (old, new) => {
                return Err(format!(
                    "no such transition: {old:?} of {from} to {new:?} of {to}"
                ));
            }
        }
        Ok(())
    }

    /// Judges an access to the payload.
    pub(super) fn judge_payload(
        &self,
        step: &Step<'_, Self>,
        ghost: &mut Ghost,
        (slot, offset): (usize, usize),
        read: Option<u64>,
    ) -> Result<(), String> {
        let state = self.state(&step.from, slot);
        let phase = if read.is_some() {
            Phase::Reading
        } else {
            Phase::Writing
        };
        if state.phase() != phase || ghost.owners[slot] != step.process {
            return Err(format!(
                "I4: slot {slot} was touched by process {}, which has not claimed it",
                step.process
            ));
        }
        let word = offset / 8 - 1;
        ghost.touched[slot] |= 1 << word;
        let position = self.position(slot, state);
        if let Some(read) = read
            && let Some((_, value)) = ghost.published.iter().find(|(at, _)| *at == position)
            && read != if word == 0 { *value } else { !*value }
        {
            return Err(format!("P2: read {read:#x} of message {value:#x}"));
        }
        Ok(())
    }
}

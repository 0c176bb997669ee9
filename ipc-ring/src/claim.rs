//! How the ends of rings are claimed, and what happens where the last holder has died.

use std::thread;
use std::time::{Duration, Instant};

use ipc_core::Mapped;
use ipc_core::fork::Process;
use ipc_core::participant::{Life, ParticipantId};
use ipc_core::segment::Object;

use crate::error::ClaimError;
use crate::role::{Holder, Role};
use crate::seat::{Seat, Seats};
use crate::side::Side;

/// What entitles a handle to its end of a ring: that the process takes part in the segment and, where the kind asks for
/// one, a role, which is given up on drop.
#[derive(Debug)]
pub(crate) struct Claim {
    object: Object,
    role: Option<Role<Mapped>>,
    me: ParticipantId,
    process: Process,
    /// Of the peer's claims, the one whose end has been told.
    told: u64,
}

/// The death of a holder of a role, by the number of its claim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death(u64);

/// How long to wait for somebody else to clear up after a dead holder. It takes microseconds, unless he was stopped in it.
const CLEARING_UP: Duration = Duration::from_millis(100);

impl Claim {
    /// Takes part, without a role.
    pub(crate) fn participant(object: &Object) -> Result<Self, ClaimError> {
        Ok(Self {
            me: object.segment().participant()?,
            object: object.clone(),
            role: None,
            process: Process::current(),
            told: 0,
        })
    }

    /// Takes `role`. A holder that has died is cleared up after first. `peer` is the role of the other side, if its death
    /// shall be told.
    pub(crate) fn role<'a>(
        object: &Object,
        role: &Role<Mapped>,
        name: &'static str,
        peer: impl Into<Option<&'a Role<Mapped>>>,
    ) -> Result<Self, ClaimError> {
        let mut claim = Self::participant(object)?;
        let segment = object.segment();
        let patience = Instant::now() + CLEARING_UP;
        while let Err(holder) = role.claim(claim.me) {
            // Whoever clears up, and however the holder ended: if the word has changed, try again.
            segment.recover(holder);
            if role.holder() != Holder::Present(holder) {
                continue;
            }
            let holder = match segment.life(holder) {
                Life::Alive(who) => format!("process {}", who.pid),
                // Somebody else is clearing up after it.
                _ if Instant::now() < patience => {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                }
                Life::Dead(who) => format!(
                    "process {}, which has died and is being cleared up after",
                    who.pid
                ),
                Life::Free => format!("{holder}, which is not attached: the ring is damaged"),
            };
            return Err(ClaimError::Taken { role: name, holder });
        }
        claim.role = Some(role.clone());
        // What happened before we came is nothing to tell.
        if let Some(peer) = peer.into().filter(|peer| peer.holder() == Holder::Died) {
            claim.told = peer.claims();
        }
        Ok(claim)
    }

    /// Our number in the segment.
    pub(crate) fn me(&self) -> ParticipantId {
        self.me
    }

    /// Whether the calling process is the one that made the claim.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.process.is_here()
    }

    /// Clears up after a participant if it has died.
    pub(crate) fn recover(&self, holder: ParticipantId) {
        self.object.segment().recover(holder);
    }

    /// A seat to count in, if there is a free one.
    pub(crate) fn seat(&self, side: &impl Side<Memory = Mapped>) -> Option<Seat<Mapped>> {
        let seats = Seats::of(self.object.area(), self.object.entry()).ok()?;
        seats.take(side.end(), side.place(), self.me, side.whole())
    }

    /// The death of the last holder of the role `peer`, if it has not been told.
    pub(crate) fn untold_death(&self, peer: &Role<Mapped>) -> Option<Death> {
        if let Holder::Present(holder) = peer.holder() {
            self.recover(holder);
        }
        let death = Death(peer.claims());
        (peer.holder() == Holder::Died && death.0 != self.told).then_some(death)
    }

    /// Remembers that the death has been told.
    pub(crate) fn tell(&mut self, death: Death) {
        self.told = death.0;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let (true, Some(role)) = (self.is_here(), &self.role) {
            role.give_up(self.me);
        }
    }
}

//! Slices of a wait: how long a waiter may sleep before it asks whether whoever it waits for still lives.
//!
//! Whoever begins to wait for one who is dead already finds out after [`SLICE`]. A wait that has lasted looks less often,
//! since each look takes a timed sleep, which costs a virtual machine some 60 us of CPU: 0.15 % of a CPU with sleeps of
//! 40 ms, 0.08 % with 75 ms. Once it has lasted it therefore tries to have all who take part [watched](crate::memory::Vigil),
//! and then is told of a death at once, and looks after [`WATCHED`] for good measure. Where that cannot be, a death is known
//! after [`LONGEST_SLICE`] at the latest, counted from the look before it and not from the sleep before it: a waiter that is
//! woken again and again for nothing looks as often as one that sleeps on.

use std::time::Duration;

/// The longest sleep before a waiter looks again, and looks whether its peer lives, while the wait is young.
pub const SLICE: Duration = Duration::from_millis(40);

/// The same once the wait has lasted a while: together with the look and the clearing up, still under 100 ms.
pub const LONGEST_SLICE: Duration = Duration::from_millis(75);

/// The same for a wait that is told of deaths. The look is for what is no death, and yet stops a peer for good or for long:
/// a process that has become another program, and one that was stopped between publishing and telling, or between its own
/// wake-up and what that was for.
pub const WATCHED: Duration = Duration::from_secs(1);

/// How long a wait is young: five slices.
const YOUNG: Duration = Duration::from_millis(200);

/// When a wait is to look around next. All times are of one clock.
#[derive(Clone, Copy, Debug)]
pub struct Slices {
    start: Duration,
    looked: Duration,
    watched: bool,
    /// When a vigil was asked for.
    asked: Option<Duration>,
}

impl Slices {
    /// That of a wait that begins.
    pub fn new(now: Duration) -> Self {
        Self {
            start: now,
            looked: now,
            watched: false,
            asked: None,
        }
    }

    /// How long may be slept; nothing if it is time to look around.
    pub fn left(&self, now: Duration) -> Duration {
        let slice = if self.is_young(self.looked) {
            SLICE
        } else if self.watched {
            WATCHED
        } else {
            LONGEST_SLICE
        };
        self.looked.saturating_add(slice).saturating_sub(now)
    }

    /// Whether to ask for a vigil before the look that is due: not while the wait is young; where there was none, not
    /// again before a second has passed; and where it was soon over, as if there had been none. It takes a look at every
    /// participant, and a peer may end it as often as it likes.
    pub fn asks_for_a_vigil(&mut self, now: Duration) -> bool {
        let apart = if self.watched { LONGEST_SLICE } else { WATCHED };
        let is_due = |asked: Duration| now.saturating_sub(asked) >= apart;
        let asks = !self.is_young(now) && self.asked.is_none_or(is_due);
        if asks {
            self.asked = Some(now);
        }
        asks
    }

    fn is_young(&self, now: Duration) -> bool {
        now.saturating_sub(self.start) < YOUNG
    }

    /// Notes that the waiter has looked around, and whether it is told of deaths since before.
    pub fn looked(&mut self, now: Duration, watched: bool) {
        self.looked = now;
        self.watched = watched;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The looks of a wait of that length whose sleeps end after `nap` at the latest.
    fn looks(lasts: Duration, nap: Duration) -> Vec<Duration> {
        let start = Duration::from_secs(7);
        let (mut now, mut slices, mut looks) = (start, Slices::new(start), vec![start]);
        while now - start < lasts {
            now += slices.left(now).min(nap);
            if slices.left(now).is_zero() {
                slices.looked(now, false);
                looks.push(now);
            }
        }
        looks
    }

    #[test]
    fn a_vigil_that_is_refused_is_not_asked_for_at_every_look() {
        // Would catch a waiter among peers that cannot be watched, which looks at all of them 13 times in a second; and one
        // that never asks again, or asks while it is young.
        for watched in [false, true] {
            let (mut now, mut asked) = (Duration::ZERO, Vec::new());
            let mut slices = Slices::new(now);
            while now < Duration::from_secs(4) {
                now += slices.left(now);
                let asks = slices.asks_for_a_vigil(now);
                asked.extend(asks.then_some(now));
                slices.looked(now, asks && watched);
            }
            assert!(asked[0] >= YOUNG, "{asked:?}");
            assert!((4..=5).contains(&asked.len()), "{watched}: {asked:?}");
        }
    }

    #[test]
    fn a_vigil_that_is_always_over_is_not_asked_for_all_the_time() {
        // Would catch a peer that counts arrivals without end, and keeps a waiter looking at all participants without a pause.
        let (mut now, mut asked) = (Duration::ZERO, 0);
        let mut slices = Slices::new(now);
        while now < Duration::from_secs(4) {
            // While it is watched, the sleep is over at once.
            now += if slices.watched {
                Duration::from_micros(10)
            } else {
                slices.left(now)
            };
            let asks = slices.asks_for_a_vigil(now);
            asked += u32::from(asks);
            slices.looked(now, asks);
        }
        assert!(asked <= 5, "{asked}");
    }

    #[test]
    fn a_death_is_known_in_time_however_a_wait_is_disturbed() {
        // Would catch a slice that begins anew with each wake-up, so that a death between two of them is known only when
        // both are over; and a wait that goes on as it began, and takes twice the CPU.
        let lasts = Duration::from_secs(3);
        for nap in [1, 7, 39, 41, 60, 74, 1000].map(Duration::from_millis) {
            let looks = looks(lasts, nap);
            let apart: Vec<_> = looks.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(apart.iter().all(|apart| *apart <= LONGEST_SLICE), "{nap:?}");
            assert_eq!(apart.first(), Some(&SLICE), "{nap:?}");
            assert_eq!(apart.last(), Some(&LONGEST_SLICE), "{nap:?}");
            assert!(looks.len() <= 5 + 1 + 38, "{nap:?}: {}", looks.len());
        }
    }
}

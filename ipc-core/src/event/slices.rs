//! Slices of a wait: how long a waiter may sleep before it asks whether whoever it waits for still lives.
//!
//! Whoever begins to wait for one who is dead already finds out after [`SLICE`]. A wait that has lasted looks less often,
//! since each look takes a timed sleep, which costs a virtual machine some 60 us of CPU: 0.15 % of a CPU with sleeps of
//! 40 ms, 0.08 % with 75 ms. A death is known after [`LONGEST_SLICE`] at the latest, counted from the look before it and not
//! from the sleep before it: a waiter that is woken again and again for nothing looks as often as one that sleeps on.

use std::time::Duration;

/// The longest sleep before a waiter looks again, and looks whether its peer lives, while the wait is young.
pub const SLICE: Duration = Duration::from_millis(40);

/// The same once the wait has lasted a while: together with the look and the clearing up, still under 100 ms.
pub const LONGEST_SLICE: Duration = Duration::from_millis(75);

/// How long a wait is young: five slices.
const YOUNG: Duration = Duration::from_millis(200);

/// When a wait is to look around next. All times are of one clock.
#[derive(Clone, Copy, Debug)]
pub struct Slices {
    start: Duration,
    looked: Duration,
}

impl Slices {
    /// That of a wait that begins.
    pub fn new(now: Duration) -> Self {
        Self {
            start: now,
            looked: now,
        }
    }

    /// How long may be slept; nothing if it is time to look around.
    pub fn left(&self, now: Duration) -> Duration {
        let slice = if self.looked.saturating_sub(self.start) < YOUNG {
            SLICE
        } else {
            LONGEST_SLICE
        };
        self.looked.saturating_add(slice).saturating_sub(now)
    }

    /// Notes that the waiter has looked around.
    pub fn looked(&mut self, now: Duration) {
        self.looked = now;
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
                slices.looked(now);
                looks.push(now);
            }
        }
        looks
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

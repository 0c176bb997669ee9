//! One process, any sequence of calls, against a plain queue.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ipc_core::segment::Place;
use ipc_ring::{PopError, PushError};
use ipc_tests::adapters::{Consumer, KINDS, Kind, Producer, Ring, STARTS};
use proptest::prelude::*;

/// A call.
#[derive(Clone, Copy, Debug)]
enum Call {
    Push,
    PushSlice(usize),
    Commit,
    DropReservation,
    ForgetReservation,
    Pop,
    PopInto(usize),
    Release,
    PutBack,
    ForgetMessage,
    Drain,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        4 => Just(Call::Push),
        2 => (1_usize..12).prop_map(Call::PushSlice),
        2 => Just(Call::Commit),
        1 => Just(Call::DropReservation),
        1 => Just(Call::ForgetReservation),
        4 => Just(Call::Pop),
        2 => (1_usize..12).prop_map(Call::PopInto),
        2 => Just(Call::Release),
        1 => Just(Call::PutBack),
        1 => Just(Call::ForgetMessage),
        1 => Just(Call::Drain),
    ];
    prop::collection::vec(call, 1..120)
}

/// The ring and what should be in it.
struct Twins {
    producer: Box<dyn Producer>,
    consumer: Box<dyn Consumer>,
    ring: Box<dyn Ring>,
    model: VecDeque<u64>,
    next: u64,
    /// Whether the kind counts its places exactly.
    exact: bool,
    /// Places that were given back since the ring was last empty. A kind may not use them again before the messages
    /// around them are gone.
    skipped: usize,
}

impl Twins {
    fn new(kind: Kind, capacity: usize, start: u64) -> Self {
        let ring = (kind.create)(Place::Anonymous, capacity).unwrap();
        if let Some(start_at) = kind.start_at {
            start_at(ring.segment(), start);
        }
        Self {
            producer: ring.producer(),
            consumer: ring.consumer(),
            ring,
            model: VecDeque::new(),
            next: 1,
            exact: kind.exact,
            skipped: 0,
        }
    }

    /// Whether so much room may be called none.
    fn may_be_full(&self, room: usize) -> bool {
        room <= self.skipped || !self.exact && room < self.ring.capacity()
    }

    fn room(&self) -> usize {
        self.ring.capacity() - self.model.len()
    }

    /// What a call that found no room may say.
    fn assert_full<T>(&self, refused: Result<T, PushError<()>>) {
        let error = refused.err().expect("a full ring took a message");
        assert_eq!(error, PushError::Full(()));
        assert!(
            self.may_be_full(self.room()),
            "full, with {} messages of {} and {} places given back",
            self.model.len(),
            self.ring.capacity(),
            self.skipped
        );
    }

    fn push(&mut self, pushed: Result<(), PushError<()>>) {
        if pushed.is_ok() {
            assert!(self.room() > 0, "a full ring took a message");
            self.model.push_back(self.next);
            self.next += 1;
        } else {
            self.assert_full(pushed);
        }
    }

    /// A message that was taken, or why not.
    fn pop(&mut self, popped: Result<u64, PopError>) {
        match self.model.pop_front() {
            Some(expected) => assert_eq!(popped, Ok(expected)),
            None => assert_eq!(popped, Err(PopError::Empty)),
        }
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::Push => {
                let pushed = self.producer.try_push(self.next);
                self.push(pushed);
            }
            Call::PushSlice(count) => {
                let numbers: Vec<_> = (self.next..).take(count).collect();
                match self.producer.try_push_slice(&numbers) {
                    Ok(pushed) => {
                        assert!(pushed <= self.room());
                        assert!(pushed == count || self.may_be_full(self.room() - pushed));
                        self.model.extend(&numbers[..pushed]);
                        self.next += pushed as u64;
                    }
                    refused => self.assert_full(refused),
                }
            }
            Call::Commit => {
                let pushed = self.producer.reserve_and_commit(self.next);
                self.push(pushed);
            }
            Call::DropReservation => match self.producer.reserve_and_drop() {
                Ok(()) => self.skipped += 1,
                refused => self.assert_full(refused),
            },
            Call::ForgetReservation => {
                // The next call on the handle gives the place back; until then it may hold up what is behind.
                match self.producer.reserve_and_forget() {
                    Ok(()) => self.skipped += 1,
                    refused => self.assert_full(refused),
                }
                if let Err(error) = self.producer.reserve_and_drop() {
                    self.assert_full(Err::<(), _>(error));
                } else {
                    self.skipped += 1;
                }
            }
            Call::Pop => {
                let popped = self.consumer.try_pop();
                self.pop(popped);
            }
            Call::PopInto(most) => match self.consumer.try_pop_into(most) {
                Ok(popped) => {
                    assert_eq!(popped.len(), most.min(self.model.len()));
                    popped.into_iter().for_each(|number| self.pop(Ok(number)));
                }
                Err(error) => self.pop(Err(error)),
            },
            Call::Release => {
                let mut read = Err(PopError::Empty);
                let outcome = self
                    .consumer
                    .read_and_release(&mut |number, _| read = Ok(number));
                self.pop(outcome.and(read));
            }
            Call::PutBack => {
                let expected = self.model.front().copied().ok_or(PopError::Empty);
                assert_eq!(self.consumer.read_and_put_back(), expected);
            }
            Call::ForgetMessage => {
                // As if released; the next call on the handle sees to it. A kind may also count it as not taken.
                let read = self.consumer.read_and_forget();
                assert_eq!(read, self.model.front().copied().ok_or(PopError::Empty));
                let next = self.consumer.try_pop();
                if read.is_ok() && next != read {
                    self.pop(read);
                }
                self.pop(next);
            }
            Call::Drain => {
                let drained = self.consumer.drain();
                assert_eq!(drained, self.model.drain(..).collect::<Vec<_>>());
            }
        }
        let len = self.ring.len();
        assert!((self.model.len()..=self.model.len() + self.skipped).contains(&len));
        if len == 0 {
            self.skipped = 0;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_calls_behaves_like_a_queue(
        calls in calls(),
        capacity in prop::sample::select(vec![1_usize, 2, 4, 8, 64]),
        start in prop::sample::select(STARTS.to_vec()),
    ) {
        // Catches a lost, doubled, torn or reordered message, a place that is lost, a wrong "full" or "empty", and
        // arithmetic that fails where positions wrap.
        for kind in KINDS {
            let mut twins = Twins::new(*kind, capacity, start);
            let possible = |call: &&Call| kind.lends || !matches!(call, Call::PutBack | Call::ForgetMessage);
            for call in calls.iter().filter(possible) {
                twins.call(*call);
            }
            twins.ring.close();
            prop_assert_eq!(twins.producer.try_push(0), Err(PushError::Closed(())));
            let mut left = Vec::new();
            while let Ok(number) = twins.consumer.try_pop() {
                left.push(number);
            }
            prop_assert_eq!(left, Vec::from(twins.model));
            prop_assert_eq!(twins.consumer.try_pop(), Err(PopError::Closed));
        }
    }
}

#[test]
fn every_order_of_pushes_and_pops_is_served_in_tiny_rings() {
    // Catches a slot, a lap or a distance that is computed wrongly anywhere in a ring of 1, 2, 4 or 8: every order of twelve
    // calls, across every place where positions wrap.
    for kind in KINDS {
        for capacity in [1, 2, 4, 8] {
            for start in STARTS {
                let mut twins = Twins::new(*kind, capacity, start);
                let calls = if start == 0 { 12 } else { 6 };
                for order in 0..1_u32 << calls {
                    for call in 0..calls {
                        let push = order >> call & 1 == 0;
                        twins.call(if push { Call::Push } else { Call::Pop });
                    }
                    twins.call(Call::Drain);
                }
            }
        }
    }
}

#[test]
fn a_wait_ends_at_its_deadline() {
    // Catches a wait that has no end, one that ends at once, and a value that is lost on the way.
    for kind in KINDS {
        for wait in crate::processes::WAITS {
            let ring = (kind.create)(Place::Anonymous, 2).unwrap();
            let (mut producer, mut consumer) = (ring.producer(), ring.consumer());
            producer.set_wait(wait);
            consumer.set_wait(wait);
            let soon = || Instant::now() + Duration::from_millis(60);
            let deadline = soon();
            assert_eq!(consumer.pop_until(deadline), Err(PopError::TimedOut));
            assert!(Instant::now() >= deadline, "{} {wait:?}", kind.name);
            producer.push_slice(&[1, 2]).unwrap();
            let deadline = soon();
            let pushed = producer.push_until(3, deadline);
            assert_eq!(pushed, Err(PushError::TimedOut(())));
            assert!(Instant::now() >= deadline, "{} {wait:?}", kind.name);
            assert_eq!(consumer.drain(), [1, 2]);
        }
    }
}

#[test]
fn impossible_capacities_are_refused() {
    // Catches a ring whose positions are masked by something that is no mask.
    for kind in KINDS {
        for capacity in [0, 3, 1000, usize::MAX, 1 << 62] {
            let refused = (kind.create)(Place::Anonymous, capacity);
            let error = refused.err().expect("a ring that cannot be");
            assert!(error.to_string().contains(&capacity.to_string()), "{error}");
        }
    }
}

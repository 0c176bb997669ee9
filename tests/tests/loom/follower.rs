//! What those see who follow a ring without taking part in it; the models are beside those of each kind.

use ipc_ring::side::{NoPeek, Peek, Spot};
use loom::thread;

/// Follows a lane up to a position. What is seen must be the message of its position, and each step must lead on.
pub(crate) fn follow(ring: &impl Peek, end: u64, expected: impl Fn(u64) -> Vec<u8>) {
    let (mut at, mut message) = (Spot::default(), Vec::new());
    while at.position < end {
        let next = match ring.peek(0, at, &mut message) {
            Ok(next) => {
                assert_eq!(message, expected(at.position));
                next
            }
            Err(NoPeek::Gone(next)) => next,
            Err(NoPeek::NotYet | NoPeek::Pending) => {
                thread::yield_now();
                continue;
            }
            Err(other) => panic!("{other:?}"),
        };
        assert!(next.position > at.position, "it stays where it is");
        at = next;
    }
}

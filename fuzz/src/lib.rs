//! What the targets of the rings share: an input is a script of calls on both ends of a live ring, and of words that a peer
//! writes into it between them.
//!
//! Whatever the words are, each call comes back, soon, and without a panic. A script is a byte for the capacity and then a byte for
//! each step, behind which a word has its place in two bytes and its value in eight.

// All kinds of rings behind the same calls, as the conformance suite has them.
#[allow(dead_code, missing_docs)]
#[path = "../../tests/src/adapters/mod.rs"]
mod adapters;

use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use adapters::{KINDS, Message, expect_rubbish};
use ipc_core::segment::{Place, Segment};
use ipc_ring::{
    ONLY, Observer, Ring, broadcast, broadcast_bytes, bytes, channel, lanes, mpmc, spsc,
};

/// Plays the script on a ring of the kind of that name.
///
/// # Panics
///
/// If a call does, or if there is no such kind.
pub fn play(name: &str, script: &[u8]) {
    expect_rubbish();
    let kind = KINDS.iter().find(|kind| kind.name == name);
    let kind = kind.expect("a kind of ring");
    let mut script = script.iter().copied();
    let capacity = 1 << (script.next().unwrap_or(0) % 5);
    let ring = (kind.create)(Place::Memfd("fuzz".into()), capacity).expect("room for a ring");
    let object = ring.segment().object(ONLY).expect("what was created");
    let (mut producer, mut consumer) = (ring.producer(), ring.consumer());
    let file = ring.segment().as_fd().try_clone_to_owned();
    let observer = Observer::open(Place::Fd(file.expect("a descriptor"))).expect("a sound ring");
    let (mut follower, mut seen) = (observer.follow_from_oldest(), Vec::new());
    let soon = || Instant::now() + Duration::from_micros(20);
    while let Some(step) = script.next() {
        match step % 20 {
            0..6 => {
                let mut next = || script.next().unwrap_or(0);
                let at = u16::from_ne_bytes([next(), next()]);
                let value = u64::from_ne_bytes(std::array::from_fn(|_| next()));
                // Half of them where the words are that steer the ring.
                let words = object.area().len() / 8;
                let words = if step % 2 == 0 { words.min(128) } else { words };
                let word = object.area().word64(8 * (usize::from(at) % words));
                let word = word.expect("a word of the ring");
                match step % 20 {
                    0 | 1 => word.store(value, Relaxed),
                    2 | 3 => word.store(word.load(Relaxed).wrapping_add(value), Relaxed),
                    _ => word.store(word.load(Relaxed) ^ 1 << (value % 64), Relaxed),
                }
            }
            6 => drop(producer.try_push(1)),
            7 => drop(producer.try_push_slice(&[2, 3, 4])),
            8 => drop(producer.reserve_and_commit(5)),
            9 => drop(producer.reserve_and_forget()),
            10 => drop(producer.push_until(6, soon())),
            11 => drop(consumer.try_pop()),
            12 => drop(consumer.try_pop_into(3)),
            13 => drop(consumer.drain()),
            14 => drop(consumer.pop_until(soon())),
            15 if kind.lends => drop(consumer.read_and_release(&mut |_, _| {})),
            16 if kind.lends => drop(consumer.read_and_put_back()),
            17 => drop(follower.try_next(&mut seen)),
            18 => drop((observer.statistics(), observer.len())),
            19 => newcomers(name, ring.segment()),
            _ => ring.close(),
        }
    }
}

/// Opens the ring as it is, and claims its ends.
fn newcomers(name: &str, segment: &Segment) {
    fn both<R: Ring>(segment: &Segment) {
        if let Ok(ring) = R::in_segment(segment, ONLY) {
            drop((ring.producer(), ring.consumer(), ring.statistics()));
        }
    }
    match name {
        "spsc" => both::<spsc::Ring<Message>>(segment),
        "mpmc" => both::<mpmc::Ring<Message>>(segment),
        "broadcast" => both::<broadcast::Ring<Message>>(segment),
        "broadcast_bytes" => both::<broadcast_bytes::Ring>(segment),
        "bytes" => both::<bytes::Ring>(segment),
        "lanes" => both::<lanes::Ring>(segment),
        "channel" => both::<channel::Ring<Vec<u8>>>(segment),
        _ => unreachable!("{name}"),
    }
}

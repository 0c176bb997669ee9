//! SPSC rings.

use ipc_ring::side::{ReceiveSide, SendSide};
use ipc_ring::spsc::Shared;
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places};
use loom::thread;

use super::claims::Claim;

/// A ring of one slot for messages of one word.
fn ring(memory: &LoomMemory) -> Shared<LoomMemory> {
    Shared::new(&memory.area(), 1, 8).unwrap()
}

/// Two laps of one slot.
fn two_laps(weakening: Option<Weakening>) {
    let places = Places {
        words64: vec![0, 128, 512, 520],
        words32: vec![256, 260, 384],
        cells: vec![640],
        len: 648,
        ..Places::default()
    };
    let memory = LoomMemory::new(places, weakening);
    let other = memory.of(2);
    let producer = thread::spawn(move || {
        let mut sender = ring(&other).sender().unwrap();
        for message in 1..=2u64 {
            while sender.try_push_one(&message.to_ne_bytes()).is_err() {
                thread::yield_now();
            }
        }
    });
    let mut receiver = ring(&memory).receiver().unwrap();
    for expected in 1..=2u64 {
        let mut message = [0; 8];
        while receiver.try_pop_one(&mut message).is_err() {
            thread::yield_now();
        }
        assert_eq!(u64::from_ne_bytes(message), expected);
    }
    producer.join().unwrap();
}

const TWO_LAPS: Claim = Claim {
    model: two_laps,
    needs: &[],
};

/// Catches a payload that is not visible with the tail, or written over before it has been read.
#[test]
fn a_message_is_visible_with_its_tail() {
    TWO_LAPS.prove();
}

//! Registers of the newest value.

use std::sync::atomic::Ordering::{Acquire, Release};

use ipc_core::event::Wait;
use ipc_core::sync::Register;
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places};
use loom::thread;

use super::claims::{Claim, cover, id};

pub(crate) const CLAIMS: &[Claim] = &[TORN, AT_ONCE, OLDER, LOST];

/// Bytes of a value: two words, so that it can be torn.
const SIZE: usize = 16;

/// A word beside the register, to tell each other of versions.
const HEARD: usize = 136;

fn memory(weakening: Option<Weakening>) -> LoomMemory {
    let slot = |slot: usize| 256 + 64 * slot;
    let places = Places {
        words32: vec![0, 4],
        words64: [128, HEARD].into_iter().chain((0..4).map(slot)).collect(),
        racing: (0..4).flat_map(|n| [slot(n) + 8, slot(n) + 16]).collect(),
        len: Register::<LoomMemory>::size(SIZE).unwrap(),
        ..Places::default()
    };
    LoomMemory::new(places, weakening)
}

fn register(memory: &LoomMemory) -> Register<LoomMemory> {
    Register::new(&memory.area(), SIZE).unwrap()
}

/// Sets the next version to its own number in both words.
fn set(register: &Register<LoomMemory>) {
    let number = register.version() + 1;
    let word = number.to_ne_bytes();
    assert_eq!(register.set([word, word].as_flattened()), number);
}

/// The version read; its value must be whole.
fn get(register: &Register<LoomMemory>) -> u64 {
    let mut value = [0; SIZE];
    let version = register.read(&mut value).expect("not so many versions");
    let word = |at: usize| u64::from_ne_bytes(value[at..at + 8].try_into().unwrap());
    assert_eq!(
        [word(0), word(8)],
        [version; 2],
        "version {version} is torn"
    );
    version
}

/// A reader, and a writer that goes all the way round.
fn torn(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let writer = register(&memory);
    set(&writer);
    let other = memory.of(2);
    let reader = thread::spawn(move || assert_ne!(get(&register(&other)), 0));
    for _ in 0..4 {
        set(&writer);
    }
    reader.join().unwrap();
}

const TORN: Claim = Claim {
    model: torn,
    needs: &["latest::try_read 2: fence", "latest::set: fence"],
};

/// Catches a value that is a mixture of two.
#[test]
fn a_value_is_never_torn() {
    TORN.prove();
}

/// A reader, and a writer that sets fewer values than there are slots.
fn at_once(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let other = memory.of(2).at_once();
    let reader = thread::spawn(move || get(&register(&other)));
    set(&register(&memory));
    set(&register(&memory));
    reader.join().unwrap();
}

const AT_ONCE: Claim = Claim {
    model: at_once,
    needs: &["latest::version: Acquire", "latest::set 3: Release"],
};

/// Catches a version that is there before its value: whoever sees it would have to look again.
#[test]
fn whoever_sees_a_version_can_read_it() {
    AT_ONCE.prove();
}

/// A writer, a reader that hears of a version from another reader.
fn older(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let (first, second) = (memory.of(2), memory.of(3));
    let writer = register(&memory);
    let heard = |memory: &LoomMemory| memory.area().word64(HEARD).unwrap();
    let first = thread::spawn(move || {
        let version = get(&register(&first));
        heard(&first).store(version, Release);
    });
    let second = thread::spawn(move || {
        let version = heard(&second).load(Acquire);
        assert!(get(&register(&second)) >= version);
    });
    set(&writer);
    first.join().unwrap();
    second.join().unwrap();
}

const OLDER: Claim = Claim {
    model: older,
    needs: &[],
};

/// Catches a value older than one that somebody told of.
#[test]
fn a_value_is_never_older_than_one_heard_of() {
    OLDER.prove();
}

/// Two writers, each with its lease, and a reader.
fn lost(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let writer = |process: u32| {
        let memory = memory.of(process);
        thread::spawn(move || {
            let (register, me) = (register(&memory), id(process.into()));
            register.lease(me, Wait::Block, None, |_| {}).unwrap();
            set(&register);
            register.give_back(me);
        })
    };
    let writers = [writer(2), writer(3)];
    let register = register(&memory);
    let before = get(&register);
    let _ = writers.map(|writer| writer.join().unwrap());
    assert!(before <= 2);
    assert_eq!(get(&register), 2);
}

const LOST: Claim = Claim {
    model: lost,
    needs: &["lock::try_lock: Acquire"],
};

/// Catches a version that two writers both set, so that a value is lost.
#[test]
fn a_value_of_several_writers_is_never_lost() {
    LOST.prove();
}

/// Catches an ordering that nothing shows to be needed.
#[test]
fn every_ordering_of_registers_is_needed() {
    cover(
        "latest",
        &[CLAIMS],
        &[
            (
                "try_read: Acquire",
                "that of `version`, right before it, carries the same",
            ),
            (
                "set 2: Release",
                "that of the version, right behind it, carries the same",
            ),
        ],
    );
}

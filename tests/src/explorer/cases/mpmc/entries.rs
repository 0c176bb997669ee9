//! The cases of rings for many producers and consumers.

use super::super::super::Timeouts;
use super::super::Entry;
use super::{MpmcCase, Role};

pub(in super::super) fn entries() -> Vec<Entry> {
    use Role::{Abort, Consume, Produce, PutBack, Take};
    let case = MpmcCase::new;
    let lending = |case| MpmcCase { lend: true, ..case };
    let batches = |case| MpmcCase {
        batch: true,
        ..case
    };
    let waiting = |case| MpmcCase { wait: true, ..case };
    let wrapping = |case: MpmcCase| MpmcCase {
        base: (1 << 47) * case.slots as u64 - case.slots as u64,
        ..case
    };
    let timed = |mut case: MpmcCase| {
        case.options.timeouts = Timeouts::WhenStuck;
        case
    };
    vec![
        Entry::quick("mpmc/1p1c n1 k2", case(1, &[Produce(2), Consume])),
        Entry::quick(
            "mpmc/1p1c n2 k3, wrapping",
            wrapping(case(2, &[Produce(3), Consume])),
        ),
        Entry::quick(
            "mpmc/1p1c n2 k2, 1 kill, a newcomer",
            case(2, &[Produce(2), Consume]).kills(1, &[Consume]),
        ),
        Entry::quick(
            "mpmc/1p2c n2 k2, 1 kill",
            case(2, &[Produce(2), Consume, Consume]).kills(1, &[]),
        ),
        Entry::quick(
            "mpmc/2p1c n2 k1",
            case(2, &[Produce(1), Produce(1), Consume]),
        ),
        Entry::quick(
            "mpmc/lending 1p1c n1 k2, 1 kill",
            lending(case(1, &[Produce(2), Consume])).kills(1, &[Consume]),
        ),
        Entry::quick(
            "mpmc/abort and put back",
            lending(case(2, &[Abort(1), Produce(1), PutBack])),
        ),
        Entry::quick(
            "mpmc/waiting 1p1c n1 k3",
            waiting(case(1, &[Produce(3), Take(3)])),
        ),
        Entry::quick(
            "mpmc/batches 1p1c n2 k3, 1 kill, a newcomer, wrapping",
            wrapping(batches(case(2, &[Produce(3), Consume]))).kills(1, &[Consume]),
        ),
        Entry::quick(
            "mpmc/batches 1p2c n2 k2",
            batches(case(2, &[Produce(2), Consume, Consume])),
        ),
        Entry::long(
            "mpmc/batches 1p2c n4 k3, 1 kill",
            batches(case(4, &[Produce(3), Consume, Consume])).kills(1, &[]),
        ),
        Entry::long(
            "mpmc/batches 1p2c n2 k3, 1 kill",
            batches(case(2, &[Produce(3), Consume, Consume])).kills(1, &[]),
        ),
        Entry::long(
            "mpmc/batches 2p1c n2 k2, 1 kill",
            batches(case(2, &[Produce(2), Produce(1), Consume])).kills(1, &[]),
        ),
        Entry::long(
            "mpmc/batches, waiting 1p2c n2 k2",
            waiting(batches(case(2, &[Produce(2), Take(1), Take(1)]))),
        ),
        Entry::long(
            "mpmc/waiting 1p2c n2 k1",
            waiting(case(2, &[Produce(2), Take(1), Take(1)])),
        ),
        Entry::long(
            "mpmc/waiting 2p1c n1 k1",
            waiting(case(1, &[Produce(1), Produce(1), Take(2)])),
        ),
        Entry::long(
            "mpmc/waiting 1p2c n1 k2",
            waiting(case(1, &[Produce(2), Take(1), Take(1)])),
        ),
        Entry::long(
            "mpmc/waiting 1p2c n2 k2, 1 kill, timeouts",
            timed(waiting(case(2, &[Produce(2), Take(1), Take(1)]))).kills(1, &[Consume]),
        ),
        Entry::long(
            "mpmc/1p1c n2 k3, 1 kill, a newcomer",
            case(2, &[Produce(3), Consume]).kills(1, &[Consume]),
        ),
        Entry::long(
            "mpmc/1p1c n2 k3, 2 kills, newcomers",
            case(2, &[Produce(3), Consume]).kills(2, &[Consume, Consume]),
        ),
        Entry::long(
            "mpmc/1p1c n1 k2, 2 kills, newcomers, wrapping",
            wrapping(case(1, &[Produce(2), Consume])).kills(2, &[Consume, Consume]),
        ),
        Entry::long(
            "mpmc/2p1c n2 k1, 1 kill, a newcomer",
            case(2, &[Produce(1), Produce(1), Consume]).kills(1, &[Consume]),
        ),
        Entry::long(
            "mpmc/1p2c n2 k3, 1 kill",
            case(2, &[Produce(3), Consume, Consume]).kills(1, &[]),
        ),
        Entry::long(
            "mpmc/1p2c n1 k2, 1 kill, a newcomer",
            case(1, &[Produce(2), Consume, Consume]).kills(1, &[Produce(1)]),
        ),
        Entry::long(
            "mpmc/2p2c n2 k1",
            case(2, &[Produce(1), Produce(1), Consume, Consume]),
        ),
        Entry::long(
            "mpmc/2p2c n2 k1, 1 kill",
            case(2, &[Produce(1), Produce(1), Consume, Consume]).kills(1, &[]),
        ),
        Entry::long(
            "mpmc/3p1c n2 k1",
            case(2, &[Produce(1), Produce(1), Produce(1), Consume]),
        ),
    ]
}

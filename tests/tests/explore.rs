//! The quick cases of the explorer: every interleaving of a few operations of the library, with kills before any access.
//!
//! The long ones run by `cargo run --release -p ipc-tests --bin explore -- --all`.

use ipc_tests::explorer::cases::event::EventCase;
use ipc_tests::explorer::cases::participant::ParticipantCase;
use ipc_tests::explorer::{Case, cases, explore};

/// Runs the quick cases of one object, prints what each explored, and demands a proof of each.
fn prove(object: &str) {
    let mut failures = Vec::new();
    let mut count = 0;
    for case in cases::all()
        .into_iter()
        .filter(|case| case.quick && case.name.starts_with(object))
    {
        let report = case.run(&mut |_, _| {});
        println!("{}: {report}", case.name);
        count += 1;
        if !report.is_proof() {
            failures.push(case.name);
        }
    }
    assert!(count > 0, "no case of {object}");
    assert!(failures.is_empty(), "without proof: {failures:?}");
}

/// Demands that a control case, in which something needed is missing, is found out.
fn refute(what: &str, case: impl Case) {
    let report = explore(&case, |_, _| {});
    println!("{what}: {report}");
    assert!(report.violation.is_some(), "{what}: not found out");
}

/// Catches a wake-up that is lost in some interleaving, and a waiter left behind by a death.
#[test]
fn events() {
    prove("event/");
}

/// Catches an explorer that sees no lost wake-ups: without timeouts a death between item and wake-up must cost one.
#[test]
fn a_killed_publisher_needs_the_timeout() {
    refute(
        "killed publisher, no timeouts",
        EventCase::killed_publisher_without_timeouts(),
    );
}

/// As above, for a wake-up that a dying waiter swallows.
#[test]
fn a_killed_waiter_needs_the_timeout() {
    refute(
        "killed waiter, no timeouts",
        EventCase::killed_waiter_without_timeouts(),
    );
}

/// Catches a row that is reused while a claim still names it, a claim taken from the living, and a death nobody clears up.
#[test]
fn participants() {
    prove("participants/");
}

/// Catches a row that nobody can clear because a stray child of a dead recoverer keeps the recovery byte. It cannot, since
/// each recovery has a file description that no older child knows; the control shares the one of the life byte.
#[test]
fn a_stray_child_of_a_recoverer_blocks_no_row() {
    let case = ParticipantCase::stray_child_of_a_recoverer(false);
    let report = explore(&case, |_, _| {});
    println!("a description for each recovery: {report}");
    assert!(report.is_proof());
    refute(
        "recovery byte kept by a stray child",
        ParticipantCase::stray_child_of_a_recoverer(true),
    );
}

/// Catches a message that is lost, torn, doubled, overtaken or taken from the living, a wrong "empty" or "full", and a
/// ring that a death has wedged.
#[test]
fn mpmc() {
    prove("mpmc/");
}

/// Catches a message that is lost, torn, doubled or out of order, a position that passes a slot too early, a role taken
/// from the living, and a side that sleeps for ever.
#[test]
fn spsc() {
    prove("spsc/");
}

/// Catches a message that is torn, out of order or missed without being counted, one that a lossless reader misses, a
/// producer that waits for the dead, and a successor that goes on elsewhere.
#[test]
fn broadcast() {
    prove("broadcast/");
}

/// The same for records, whose readers find where they are by marks of two words, and are told of every gap exactly.
#[test]
fn broadcast_of_bytes() {
    prove("broadcast_bytes/");
}

/// Catches a record that is lost, torn, doubled or out of the order of its lane, a position stored by somebody without
/// the role, and a side that sleeps for ever.
#[test]
fn bytes_and_lanes() {
    prove("bytes/");
    prove("lanes/");
}

/// Catches a lock that two hold, one that is free while everybody who wants it sleeps, and a death that is not told.
#[test]
fn locks() {
    prove("lock/");
}

/// Catches a value that is torn, one that goes back, and one that a dead writer hides.
#[test]
fn latest() {
    prove("latest/");
}

/// Catches a writer that is not alone, a reader or writer left asleep, and a death that is not told.
#[test]
fn read_write_locks() {
    prove("rwlock/");
}

/// Catches a permit that two have, one taken from the living, and a taker left asleep beside a free one.
#[test]
fn semaphores() {
    prove("semaphore/");
}

/// Catches a round that ends before all have arrived, one that some are told is complete and others that it is broken,
/// and a member that waits for the dead.
#[test]
fn barriers() {
    prove("barrier/");
}

/// Catches something that is done twice or not at all, and a caller that waits for the dead.
#[test]
fn once() {
    prove("once/");
}

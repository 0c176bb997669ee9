//! Which operations are killed in which states, and what survivors may find.

use crate::kill::adapter::{Case, Pair};

/// How many messages have passed through the ring of a state, and how many are in it.
pub(super) fn contents(state: &str) -> (u64, u64) {
    match state {
        "empty" | "waiter asleep" | "holder dead" => (0, 0),
        "one" | "last" => (0, 1),
        "wrapping" | "reader dead" | "writer dead" => (3, 2),
        "full" | "producer asleep" | "room since seen full" => (0, 4),
        other => unreachable!("no state {other}"),
    }
}

/// Whether the operation is done with several messages, or where a message lies.
pub(super) fn lends(case: &Case) -> bool {
    let operation = case.operation;
    operation.ends_with("batch") || operation.starts_with("re")
}

/// What all kinds do.
pub(super) fn common() -> Vec<Case> {
    let case = Case::new;
    vec![
        case("push", "empty", &["nothing", "100"]),
        case("push", "one", &["1", "1 100"]),
        case("push", "wrapping", &["4 5", "4 5 100"]),
        case("push", "waiter asleep", &["nothing", "100"]),
        case("push", "room since seen full", &["1 2 3 4", "1 2 3 4 100"]),
        case("push", "full", &["1 2 3 4", "1 2 3 4 100"]).blocking(),
        case(
            "push whole batch",
            "full",
            &[
                "1 2 3 4",
                "1 2 3 4 100",
                "1 2 3 4 100 101",
                "1 2 3 4 100 101 102",
            ],
        )
        .blocking(),
        case("pop waiting batch", "empty", &["nothing", "60", "nothing"]).blocking(),
        case("try push", "one", &["1", "1 100"]),
        case("try push", "full", &["1 2 3 4"]).if_stopped("1 2 3 4 100"),
        case("try pop", "one", &["1", "nothing"]),
        case("try pop", "empty", &["nothing"]),
        case("reserve and commit", "wrapping", &["4 5", "4 5 100"]),
        case("reserve and commit", "waiter asleep", &["nothing", "100"]),
        case("reserve and drop", "wrapping", &["4 5"]),
        case("pop", "last", &["1", "nothing"]),
        case("pop", "wrapping", &["4 5", "5"]),
        case("pop", "full", &["1 2 3 4", "2 3 4"]),
        case("pop", "producer asleep", &["1 2 3 4", "2 3 4"]),
        case("pop", "empty", &["nothing", "60", "nothing"]).blocking(),
        case("read and release", "wrapping", &["4 5", "5"]),
        case("read and release", "producer asleep", &["1 2 3 4", "2 3 4"]),
        case("read and put back", "wrapping", &["4 5"]),
        case("close by producer", "one", &["1", "1 closed"]),
        case("close by producer", "waiter asleep", &["nothing", "closed"]),
        case("close by consumer", "one", &["1", "1 closed"]),
    ]
}

/// Where a batch is published and committed in one step, and roles are claimed.
pub(super) fn exclusive(one_by_one: bool) -> Vec<Case> {
    let case = Case::new;
    // Where a batch is taken one by one, it can end between any two.
    let (two, three): (&[&str], &[&str]) = if one_by_one {
        (&["4 5", "5", "nothing"], &["1 2 3 4", "2 3 4", "3 4", "4"])
    } else {
        (&["4 5", "nothing"], &["1 2 3 4", "4"])
    };
    vec![
        case("push batch", "empty", &["nothing", "100 101 102"]),
        case("push batch", "wrapping", &["4 5", "4 5 100 101"]).if_stopped("4 5 100 101 102"),
        case("push batch", "waiter asleep", &["nothing", "100 101 102"]),
        case("pop batch", "wrapping", two),
        case("pop batch", "full", three),
        case("claim producer", "empty", &["nothing"]),
        case("claim producer", "holder dead", &["nothing"]),
        case("claim consumer", "one", &["1"]),
        case("give up producer", "one", &["1"]),
        case("give up consumer", "one", &["1"]),
    ]
}

/// Where each message of a batch is published and committed by itself, and claims in slots can be left by the dead.
pub(super) fn shared() -> Vec<Case> {
    let case = Case::new;
    vec![
        case(
            "push batch",
            "empty",
            &["nothing", "100", "100 101", "100 101 102"],
        ),
        case("push batch", "wrapping", &["4 5", "4 5 100", "4 5 100 101"])
            .if_stopped("4 5 100 101 102"),
        case(
            "push batch",
            "waiter asleep",
            &["nothing", "100", "100 101", "100 101 102"],
        ),
        case("pop batch", "wrapping", &["4 5", "5", "nothing"]),
        case("pop batch", "full", &["1 2 3 4", "2 3 4", "3 4", "4"]),
        case("push", "reader dead", &["4 5", "4 5 100"]),
        case("push", "writer dead", &["4 5", "4 5 100"]),
        case("pop", "reader dead", &["4 5", "4"]),
        case("pop", "writer dead", &["4 5", "5"]).blocking(),
    ]
}

fn pair(first: &'static str, second: &'static str, state: &'static str, outcomes: &[&str]) -> Pair {
    Pair {
        first: Case::new(first, state, outcomes),
        second: Case::new(second, state, outcomes),
        outcomes: outcomes.iter().map(ToString::to_string).collect(),
    }
}

/// Pairs where each role has one holder.
pub(super) fn exclusive_pairs() -> Vec<Pair> {
    vec![
        pair("push", "pop", "one", &["1", "1 100", "100", "nothing"]),
        pair(
            "push",
            "pop batch",
            "wrapping",
            &["4 5", "5", "4 5 100", "5 100", "100", "nothing"],
        ),
        pair(
            "push unless closed",
            "close by consumer",
            "one",
            &["1", "1 100", "1 closed", "1 100 closed"],
        ),
        pair(
            "reserve and commit",
            "read and release",
            "one",
            &["1", "1 100", "100", "nothing"],
        ),
        pair(
            "one of two claims producer",
            "one of two claims producer",
            "holder dead",
            &["nothing"],
        ),
    ]
}

/// What two pushes come to.
const TWO_PUSHES: &[&str] = &["1", "1 100", "1 200", "1 100 200", "1 200 100"];

/// Where several push at a time.
pub(super) fn two_pushes() -> Pair {
    pair("push", "push other", "one", TWO_PUSHES)
}

/// Pairs where a role has any number of holders.
pub(super) fn shared_pairs() -> Vec<Pair> {
    vec![
        two_pushes(),
        pair("reserve and commit", "push other", "one", TWO_PUSHES),
        pair("push", "pop", "one", &["1", "1 100", "100", "nothing"]),
        pair("pop", "pop", "wrapping", &["4 5", "4", "5", "nothing"]),
        pair(
            "read and release",
            "pop",
            "wrapping",
            &["4 5", "4", "5", "nothing"],
        ),
        pair(
            "push unless closed",
            "close by consumer",
            "one",
            &["1", "1 100", "1 closed", "1 100 closed"],
        ),
    ]
}

//! Which operations are killed in which states, and what newcomers read.

use crate::kill::adapter::{Case, Pair};

/// Whether the victim is a reader.
pub(super) fn is_reader(operation: &str) -> bool {
    ["pop", "try pop", "leave"]
        .iter()
        .any(|verb| operation.starts_with(verb))
        || operation.ends_with("reader")
}

/// Whether the producer waits for a lossless reader for as long as it lives.
pub(super) fn is_patient(case: &Case) -> bool {
    !["a slow reader in the way", "let go"].contains(&case.state)
}

/// Whether what counts is where the successor of a lossless reader goes on.
pub(super) fn is_inherited(operation: &str) -> bool {
    (operation.contains("pop") && operation.ends_with("lossless"))
        || operation.contains("successor")
}

/// How many messages have been pushed in a state, and how many of them the lossless reader has taken that lives beside the
/// victim.
pub(super) fn contents(state: &str) -> (u64, u64) {
    match state {
        "one" => (1, 0),
        "wrapping" | "holder half way" => (5, 4),
        "full" | "reader dead" | "a slow reader in the way" => (4, 0),
        "two taken" => (4, 2),
        _ => (0, 0),
    }
}

/// Every operation in every state. `spares`: whoever makes room gives up one message more, unless a lossless reader has still
/// to take it, and messages of a batch are taken one by one.
pub(super) fn cases(spares: bool) -> Vec<Case> {
    let mut cases = typed();
    if spares {
        for other in sparing() {
            let same =
                |case: &&mut Case| (case.operation, case.state) == (other.operation, other.state);
            if let Some(case) = cases.iter_mut().find(same) {
                *case = other;
            }
        }
    }
    cases
}

/// What those who give up one message more find where others find something else.
fn sparing() -> Vec<Case> {
    let case = Case::new;
    let over = &["3 4 5", "3 4 5 100"];
    let two = &["1 2 3 4", "3 4", "3 4 100"];
    vec![
        case("push", "wrapping", over),
        case("push", "full", &["1 2 3 4", "2 3 4", "2 3 4 100"])
            .blocking()
            .if_stopped("3 4 100"),
        case("push", "reader dead", two).blocking(),
        case("push", "a slow reader in the way", two),
        case("try push", "full", &["1 2 3 4"]).if_stopped("3 4 100"),
        case(
            "push batch",
            "wrapping",
            &["3 4 5", "3 4 5 100", "5 100", "5 100 101", "5 100 101 102"],
        ),
        case("reserve and commit", "wrapping", over),
        case("reserve and drop", "wrapping", &["3 4 5"]),
        // Whether the producer has still heeded the reader depends on who comes first after its death.
        case(
            "pop lossless",
            "producer asleep",
            &["3 4 50 after 2 missed", "3 4 50 after 1 missed", "2 3 4 50"],
        )
        .in_any_order()
        .if_stopped("3 4 50")
        .in_copies(&["1 2 3 4", "2 3 4"]),
        case(
            "pop batch lossless",
            "wrapping",
            &["3 4 5", "4 5", "5", "nothing"],
        )
        .if_stopped("3 4 5"),
        case("leave lossless", "producer asleep", &["3 4 50"]).in_copies(&["1 2 3 4"]),
        case("pop lossy", "wrapping", &["3 4 5"]),
        case("pop lossy", "overtaken", &["3 4 5"]),
        case("pop latest", "wrapping", &["3 4 5"]),
        case("join lossless at the newest", "wrapping", &["3 4 5"]),
        case("join as a successor", "two taken", &["3 4"]).if_stopped("1 2 3 4"),
    ]
}

/// What those find who write over one message at a time.
fn typed() -> Vec<Case> {
    let case = Case::new;
    // The slot of the oldest message is written over.
    let over = &["2 3 4 5", "3 4 5", "3 4 5 100"];
    let full = &["1 2 3 4", "2 3 4", "2 3 4 100"];
    vec![
        case("push", "empty", &["nothing", "100"]),
        case("push", "one", &["1", "1 100"]),
        case("push", "wrapping", over),
        case("push", "full", full).blocking(),
        case("push", "reader dead", full).blocking(),
        case("push", "lossless reader asleep", &["nothing", "100"]),
        case("push", "lossy reader asleep", &["nothing", "100"]),
        case(
            "push",
            "a slow reader in the way",
            &["1 2 3 4", "2 3 4", "2 3 4 100"],
        ),
        case("try push", "full", &["1 2 3 4"]).if_stopped("2 3 4 100"),
        case(
            "push batch",
            "wrapping",
            &[
                "2 3 4 5",
                "3 4 5",
                "3 4 5 100",
                "4 5 100",
                "4 5 100 101",
                "5 100 101",
                "5 100 101 102",
            ],
        ),
        case(
            "push batch",
            "lossless reader asleep",
            &["nothing", "100", "100 101", "100 101 102"],
        ),
        case("reserve and commit", "wrapping", over),
        case("reserve and drop", "wrapping", &["2 3 4 5", "3 4 5"]),
        case("close by producer", "one", &["1", "1 closed"]),
        case(
            "close by producer",
            "lossless reader asleep",
            &["nothing", "closed"],
        ),
        case("give up producer", "one", &["1"]),
        case("claim producer", "one", &["1"]),
        case("claim producer", "holder dead", &["1"]),
        case("claim producer", "holder half way", &["3 4 5"]),
        // A reader that has left has no successor: a newcomer begins with the oldest message.
        case("pop lossless", "one", &["1", "nothing"]).if_stopped("1"),
        case("pop lossless", "wrapping", &["3 4 5", "4 5"]).if_stopped("3 4 5"),
        case(
            "pop lossless",
            "nothing there",
            &["nothing", "60", "nothing"],
        )
        .blocking()
        .if_stopped("60"),
        case(
            "pop lossless",
            "producer asleep",
            &["3 4 50 after 2 missed", "3 4 50 after 1 missed"],
        )
        .if_stopped("3 4 50")
        .in_copies(&["2 3 4 after 1 missed", "2 3 4"]),
        // It has been let go, and is told so; then the producer waits for it again.
        case("pop lossless", "let go", &["3 4 5 after 2 missed", "3 4 5"]),
        case("try pop lossless", "nothing there", &["nothing"]),
        case("pop batch lossless", "wrapping", &["3 4 5", "nothing"]).if_stopped("3 4 5"),
        case("close by reader", "one", &["1", "1 closed"]),
        case("leave lossless", "one", &["1"]),
        case("leave lossless", "producer asleep", &["2 3 4 50"]).in_copies(&["1 2 3 4"]),
        case("pop lossy", "wrapping", &["2 3 4 5"]),
        case("pop lossy", "overtaken", &["2 3 4 5"]),
        case("pop latest", "wrapping", &["2 3 4 5"]),
        case("pop latest", "nothing there", &["nothing"]),
        case("join lossless", "one", &["1"]),
        case("join lossless", "every place taken", &["nothing"]),
        case("join lossless at the newest", "wrapping", &["2 3 4 5"]),
        case("join as a successor", "two taken", &["3 4"]).if_stopped("2 3 4"),
        case("join lossy", "one", &["1"]),
    ]
}

/// Two at a time.
pub(super) fn pairs(spares: bool) -> Vec<Pair> {
    let pair = |first, second, state, outcomes: &[&str]| Pair {
        first: Case::new(first, state, &[]),
        second: Case::new(second, state, &[]),
        outcomes: outcomes.iter().map(ToString::to_string).collect(),
    };
    let over: &[&str] = if spares {
        &["3 4 5", "3 4 5 100"]
    } else {
        &["2 3 4 5", "3 4 5", "3 4 5 100"]
    };
    let slow: &[&str] = if spares {
        &["1 2 3 4", "3 4", "3 4 100", "2 3 4", "2 3 4 100"]
    } else {
        &["1 2 3 4", "2 3 4", "2 3 4 100"]
    };
    vec![
        pair(
            "push",
            "try pop lossless",
            "one",
            &["1", "1 100", "100", "nothing"],
        ),
        pair("push", "pop lossless", "a slow reader in the way", slow),
        pair("push", "pop lossy", "wrapping", over),
        pair("push", "join lossless at the newest", "wrapping", over),
        pair("push", "leave lossless", "one", &["1", "1 100"]),
        pair("join lossless", "join lossless", "one", &["1"]),
        pair(
            "one of two claims producer",
            "one of two claims producer",
            "holder dead",
            &["1"],
        ),
    ]
}

//! Which operations are killed in which states, and what newcomers read.

use crate::kill::adapter::{Case, Pair};

/// Whether the victim is a reader.
pub(super) fn is_reader(operation: &str) -> bool {
    ["pop", "try pop", "leave"]
        .iter()
        .any(|verb| operation.starts_with(verb))
        || operation.ends_with("reader")
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
        "full" | "reader dead" => (4, 0),
        "two taken" => (4, 2),
        _ => (0, 0),
    }
}

/// Every operation in every state.
pub(super) fn cases() -> Vec<Case> {
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
pub(super) fn pairs() -> Vec<Pair> {
    let pair = |first, second, state, outcomes: &[&str]| Pair {
        first: Case::new(first, state, &[]),
        second: Case::new(second, state, &[]),
        outcomes: outcomes.iter().map(ToString::to_string).collect(),
    };
    let over = &["2 3 4 5", "3 4 5", "3 4 5 100"];
    vec![
        pair(
            "push",
            "try pop lossless",
            "one",
            &["1", "1 100", "100", "nothing"],
        ),
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

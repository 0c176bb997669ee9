//! Which operations are killed in which states, and what survivors may find.

use super::Sync;
use super::stage::{PASSED_OVER, WRITER_PASSED_OVER};
use crate::kill::adapter::{Case, Pair};

/// Every operation in every state.
pub(super) fn cases(kind: Sync) -> Vec<Case> {
    let case = Case::new;
    // A value is set in several steps, all of them under the lock.
    let set = &["1", "1 holder died", "100 holder died", "100"];
    // In a copy, whoever held the lock beside the victim is dead; then it lets go; then the victim has it.
    let after_another = &[
        "1 holder died",
        "1",
        "1 holder died",
        "100 holder died",
        "100",
    ];
    let end = &["100 holder died", "100"];
    match kind {
        Sync::Mutex => vec![
            case("lock and set", "free", set),
            case("try and set", "free", set),
            case("try and set", "held by another", &["1"]).in_copies(&["1 holder died"]),
            case("lock and set", "held by another", set)
                .blocking()
                .in_copies(after_another),
            case(
                "lock and set",
                "holder dead",
                &["1 holder died", "100 holder died", "100"],
            )
            .blocking(),
            case("unlock", "nobody waits", end),
            // Which way it goes depends on how long the waiter has been asleep.
            case("unlock", "waiter asleep", end).in_any_order(),
            case("unlock", PASSED_OVER, end),
        ],
        Sync::RwLock => vec![
            case("write", "free", set),
            case("write", "read by another", set)
                .blocking()
                .in_copies(set),
            case("write", "written by another", set)
                .blocking()
                .in_copies(after_another),
            case("write", "reader dead", set).blocking(),
            case("read", "free", &["1"]),
            case("read", "read by another", &["1"]),
            case("read", "written by another", &["1"])
                .blocking()
                .in_copies(&["1 holder died", "1"]),
            case("end writing", "reader asleep", end).in_any_order(),
            case("end writing", "writer asleep", end).in_any_order(),
            case("end writing", WRITER_PASSED_OVER, end),
            case("end reading", "nobody waits", &["1"]),
            case("end reading", "writer asleep", &["1"]),
        ],
        Sync::Semaphore => vec![
            case("acquire and release", "free", &["2 permits"]),
            case("acquire and release", "one left", &["2 permits"]),
            case("acquire and release", "none left", &["2 permits"]).blocking(),
            case("acquire and release", "holders dead", &["2 permits"]).blocking(),
            case("try to acquire", "none left", &["2 permits"]),
            case("release", "waiter asleep", &["2 permits"]),
        ],
        Sync::Latest => vec![
            case("set", "set before", &["1", "100"]),
            case("set", "never set", &["nothing", "100"]),
            case("set", "waiter asleep", &["1", "100"]),
            case("set", "writer lives", &["1", "100"]).blocking(),
            case("set", "writer dead", &["1", "100"]).blocking(),
            case("get", "set before", &["1"]),
            case("get", "never set", &["nothing"]),
            case("wait", "set before", &["1", "60"]).blocking(),
        ],
        Sync::Once => vec![
            case("call", "never called", &["ran now", "ran again", "done"]),
            case("call", "runs elsewhere", &["done"])
                .blocking()
                .in_copies(&["ran again", "done"]),
            case("call", "caller dead", &["ran again", "done"]).blocking(),
            case("call", "done", &["done"]),
            case("end call", "waiter asleep", &["ran again", "done"]),
        ],
        Sync::Sequence => vec![
            case("next", "at 5", &["5", "6"]),
            case("add", "at 5", &["5", "8"]),
            case("raise", "at 5", &["5", "50"]),
        ],
    }
}

/// Two at a time.
pub(super) fn pairs(kind: Sync) -> Vec<Pair> {
    let pair = |first, second, state, outcomes: &[&str]| Pair {
        first: Case::new(first, state, &[]),
        second: Case::new(second, state, &[]),
        outcomes: outcomes.iter().map(ToString::to_string).collect(),
    };
    let value = &["1", "100", "1 holder died", "100 holder died"];
    match kind {
        Sync::Mutex => vec![pair("lock and set", "lock and set", "free", value)],
        Sync::RwLock => vec![
            pair("write", "write", "free", value),
            pair("write", "read", "free", value),
        ],
        Sync::Semaphore => vec![pair(
            "acquire and release",
            "acquire and release",
            "one left",
            &["2 permits"],
        )],
        Sync::Latest => vec![
            pair("set", "get", "set before", &["1", "100"]),
            pair("set", "set", "set before", &["1", "100"]),
        ],
        Sync::Once => vec![pair(
            "call",
            "call",
            "never called",
            &["ran now", "ran again", "done"],
        )],
        Sync::Sequence => vec![pair("next", "next", "at 5", &["5", "6", "7"])],
    }
}

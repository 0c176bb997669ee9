//! Segments: what is drawn is what is there, what is damaged is refused, and nobody ever finds a half-made one.
//!
//! The tests whose names begin with `f` and a number belong to that row of the table of faults in `docs/trust.md`. All of
//! them run twice: as the user who calls them, and, if that is root, as an ordinary user.
#![allow(unreachable_pub, reason = "the modules below are one program")]

#[path = "segments/support.rs"]
mod support;

#[path = "segments/drawing.rs"]
mod drawing;
#[path = "segments/files.rs"]
mod files;
#[path = "segments/forks.rs"]
mod forks;
#[path = "segments/header.rs"]
mod header;
#[path = "segments/kills.rs"]
mod kills;
#[path = "segments/names.rs"]
mod names;
#[path = "segments/races.rs"]
mod races;
#[path = "segments/reader.rs"]
mod reader;

/// What a child of a test can do (see [`support::child`]).
const ROLES: &[support::Role] = &[
    ("named_segments", names::named_segments),
    ("a_member_of_the_group", names::a_member_of_the_group),
    ("racer", races::racer),
    ("churner", races::churner),
    ("creator", kills::creator),
    ("creator_without_tmpfile", kills::creator_without_tmpfile),
    ("replacer", kills::replacer),
    ("forker", forks::forker),
    ("parent_that_forks", forks::parent_that_forks),
    ("parent_that_clones", forks::parent_that_clones),
    ("in_another_time", forks::in_another_time),
    ("receiver", forks::receiver),
];

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
#[path = "segments/hostile.rs"]
mod hostile;
#[path = "segments/kills.rs"]
mod kills;
#[path = "segments/limits.rs"]
mod limits;
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
    ("named_nowhere", names::named_nowhere),
    ("racer", races::racer),
    ("churner", races::churner),
    ("creator", kills::creator),
    ("creator_without_tmpfile", kills::creator_without_tmpfile),
    ("adopter", kills::adopter),
    ("replacer", kills::replacer),
    ("forker", forks::forker),
    ("parent_that_forks", forks::parent_that_forks),
    ("parent_that_clones", forks::parent_that_clones),
    ("in_another_time", forks::in_another_time),
    ("receiver", forks::receiver),
    ("on_a_full_tmpfs", limits::on_a_full_tmpfs),
    ("on_a_full_disk", limits::on_a_full_disk),
    ("on_a_failing_disk", limits::on_a_failing_disk),
    ("on_odd_file_systems", limits::on_odd_file_systems),
    ("within_limits", limits::within_limits),
    ("in_a_small_group", limits::in_a_small_group),
    ("creator_of_much", limits::creator_of_much),
    ("mutator", hostile::mutator),
    ("victim", hostile::victim),
];

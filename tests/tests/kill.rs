//! A process may die after any instruction: mode A for every case of every kind, and some real kills.

use std::path::PathBuf;

use ipc_tests::kill::modes::{self, Context, Job, TASTE};
use ipc_tests::kill::report::Report;
use ipc_tests::kill::tracer::{self, Program};

fn run(jobs: &[Job]) -> Option<Report> {
    if let Some(reason) = tracer::obstacle() {
        println!("skipped: {reason}");
        return None;
    }
    let program = Program(PathBuf::from(env!("CARGO_BIN_EXE_kill")));
    let report = Report::default();
    let traces = modes::Traces::default();
    let context = Context {
        program: &program,
        report: &report,
        traces: &traces,
        seed: 1,
        depth: TASTE,
    };
    modes::in_parallel(jobs, |job| job.run(context));
    print!("{}", report.show());
    Some(report)
}

/// Would catch a state in which a death loses or doubles a message, tears one, or leaves something that newcomers
/// cannot take over.
#[test]
fn every_distinct_state_of_every_operation_can_be_taken_over() {
    let jobs = modes::jobs("A");
    let Some(report) = run(&jobs) else { return };
    assert_eq!(report.violations(), Vec::<String>::new());
    // Each case has at least its first state, and most have several.
    assert!(
        report.states() > 2 * jobs.len(),
        "{} states",
        report.states()
    );
}

/// Would catch what a copy does not show: locks that the kernel does not free, survivors that are not woken, a dead
/// process that is taken for a living one.
#[test]
fn survivors_go_on_after_real_kills() {
    let jobs = modes::jobs("B");
    let Some(report) = run(&jobs) else { return };
    assert_eq!(report.violations(), Vec::<String>::new());
    assert!(
        report.kills() >= TASTE.least.kills * jobs.len() as u64,
        "{} kills",
        report.kills()
    );
}

/// Would catch a page that says of a death what the harness does not find.
#[test]
fn the_page_on_recovery_says_what_the_harness_checks() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/recovery.md");
    let page = std::fs::read_to_string(path).expect("docs/recovery.md");
    assert!(
        page == ipc_tests::kill::recovery::page(),
        "docs/recovery.md is out of date: cargo run -p ipc-tests --bin kill -- --recovery docs/recovery.md"
    );
}

//! Explores the library's algorithms: `explore [--all | --quick] [NAME...]`.
//!
//! Without `--all` only the quick cases; with names those cases whose names contain one of them, with `--quick` the quick
//! ones among them.

use std::process::ExitCode;
use std::time::Instant;

use ipc_tests::explorer::cases;

fn main() -> ExitCode {
    let (flags, names): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|arg| arg.starts_with("--"));
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    let all = has("--all") || !names.is_empty() && !has("--quick");
    let wanted =
        |name: &str| names.is_empty() || names.iter().any(|part| name.contains(part.as_str()));
    let mut failed = 0;
    let mut states = 0;
    let start = Instant::now();
    let chosen: Vec<_> = cases::all()
        .into_iter()
        .filter(|case| (all || case.quick) && wanted(&case.name))
        .collect();
    for case in &chosen {
        let mut told = Instant::now();
        let report = case.run(&mut |states, waiting| {
            if told.elapsed().as_secs() >= 5 {
                told = Instant::now();
                eprintln!("  {}: {states} states, {waiting} waiting", case.name);
            }
        });
        println!("{}: {report}", case.name);
        states += report.states;
        failed += u32::from(!report.is_proof());
    }
    println!(
        "{} cases, {states} states, {failed} without proof, {:.0} s",
        chosen.len(),
        start.elapsed().as_secs_f64()
    );
    if failed == 0 && !chosen.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

//! Kills victims at every instruction of every operation: `cargo run --release -p ipc-tests --bin kill -- --mode all`.
//!
//! A victim is this program again, started by itself with the word `victim` in front.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use ipc_tests::kill::ground;
use ipc_tests::kill::modes::{self, Context, Job};
use ipc_tests::kill::report::Report;
use ipc_tests::kill::soak;
use ipc_tests::kill::tracer::{self, Program};
use ipc_tests::kill::victim;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Kills a process after each instruction of each operation and checks that the others go on.
#[derive(Parser)]
struct Arguments {
    /// Which modes to run.
    #[arg(
        long,
        value_enum,
        ignore_case = true,
        value_delimiter = ',',
        default_value = "all"
    )]
    mode: Vec<Mode>,
    /// Fewer samples of long operations: done within four minutes.
    #[arg(long)]
    quick: bool,
    /// Only cases whose name begins so, such as `spsc/push`.
    #[arg(long, default_value = "")]
    only: String,
    /// Instead of single steps, kill workers that run at full speed, for so many seconds, divided among all kinds.
    #[arg(long, value_name = "SECONDS")]
    soak: Option<u64>,
    /// Begin no new case after so many minutes. What is left out then counts as a violation.
    #[arg(long, value_name = "MINUTES", default_value_t = 90)]
    within: u64,
    /// Only write the page that says what each death leaves.
    #[arg(long, value_name = "FILE")]
    recovery: Option<PathBuf>,
    /// Seeds the samples. Drawn from the clock if not given.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Check a copy of each distinct state.
    A,
    /// Kill at every instruction.
    B,
    /// Stop at every instruction, let the others work, go on.
    C,
    /// Stop two, kill one.
    D,
    /// Kill the recoverer.
    E,
    /// B to E.
    All,
}

/// How often a run without a bar says how far it is.
const MINUTE: Duration = Duration::from_secs(60);

/// Kills of a whole run at least.
const KILLS: u64 = 100_000;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "victim") {
        victim::main(&arguments[1..])?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.first().is_some_and(|first| first == "soaker") {
        soak::worker(&arguments[1..])?;
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = Arguments::parse();
    if let Some(page) = arguments.recovery {
        std::fs::write(&page, ipc_tests::kill::recovery::page())?;
        return Ok(ExitCode::SUCCESS);
    }
    leave_nothing()?;
    if let Some(reason) = tracer::obstacle() {
        println!("skipped: {reason}");
        return Ok(ExitCode::SUCCESS);
    }
    let seed = arguments.seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(1, |now| now.as_nanos() as u64)
    });
    println!("seed {seed}");
    let program = Program(std::env::current_exe().context("find this program")?);
    if let Some(seconds) = arguments.soak {
        let length = Duration::from_secs(seconds);
        soak::soak(&program, seed, length, &arguments.only, |soaked| {
            println!(
                "{:10} {} kills, {} done, none twice or out of turn, {} taken along by the dead",
                soaked.kind, soaked.kills, soaked.done, soaked.taken_along
            );
        })?;
        println!("seed {seed}: every ledger is right");
        return Ok(ExitCode::SUCCESS);
    }
    let report = Report::default();
    let traces = modes::Traces::default();
    let context = Context {
        program: &program,
        report: &report,
        traces: &traces,
        seed,
        depth: if arguments.quick {
            modes::QUICK
        } else {
            modes::FULL
        },
    };
    println!(
        "at least, of each kind, operation and state: {:?}",
        context.depth.least
    );
    let mut jobs = Vec::new();
    for (mode, letter) in [
        (Mode::A, "A"),
        (Mode::B, "B"),
        (Mode::C, "C"),
        (Mode::D, "D"),
        (Mode::E, "E"),
    ] {
        let all = mode != Mode::A && arguments.mode.contains(&Mode::All);
        if all || arguments.mode.contains(&mode) {
            jobs.extend(modes::jobs(letter));
        }
    }
    jobs.retain(|job| job.title().starts_with(&arguments.only));
    let begun = Instant::now();
    let end = begun + Duration::from_secs(60 * arguments.within);
    run(context, &jobs, end);
    print!("{}", report.show());
    println!("seed {seed}, {:.0?}", begun.elapsed());
    let everything = arguments.mode.contains(&Mode::All) && arguments.only.is_empty();
    if everything && !arguments.quick && report.kills() < KILLS {
        let text = format!("a shortfall: {} kills of at least {KILLS}", report.kills());
        report.violation("all", "everything", &text);
    }
    let violations = report.violations().len();
    println!(
        "{} kills, {} states, {violations} violations",
        report.kills(),
        report.states()
    );
    Ok(if violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// From now on, a signal that asks for the end removes the directories that victims work in before it ends this process. The
/// victims end with it.
fn leave_nothing() -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).context("catch signals")?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // What fails from now on for want of its directory is nothing to tell.
            let _silence = std::io::stderr().lock();
            ground::sweep();
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    });
    Ok(())
}

/// Does all jobs, as long as there is time.
fn run(context: Context<'_>, jobs: &[Job], end: Instant) {
    let style = "{elapsed_precise} {wide_bar} {pos}/{len} {msg}";
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(jobs.len() as u64).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    // Where there is nobody to see a bar, a line a minute.
    let told = Mutex::new(Instant::now());
    modes::in_parallel(jobs, |job| {
        if Instant::now() > end {
            let text = "not run, for lack of time";
            context.report.violation(job.mode(), &job.title(), text);
            return;
        }
        bar.set_message(format!("{} kills, {}", context.report.kills(), job.title()));
        job.run(context);
        bar.inc(1);
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if bar.is_hidden() && told.elapsed() > MINUTE {
            *told = Instant::now();
            let (done, kills) = (bar.position(), context.report.kills());
            eprintln!("{done} of {} done, {kills} kills", jobs.len());
        }
    });
    bar.finish_and_clear();
}

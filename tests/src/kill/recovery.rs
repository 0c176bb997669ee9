//! The table in `docs/recovery.md`: what each death leaves, as the harness finds it.
//!
//! The rows are the cases of the adapters, so that the document says what is checked, and nothing else.

use crate::kill::adapter::{self, Adapter};

const HEAD: &str = "\
# What a death leaves

A process may be killed after any instruction. This page says, for every operation of every kind of object, what the
others then find, who clears up, and what a caller is told.

The tables are made from the list that the kill harness works through (`tests/src/kill/`), and a test holds them against
it: `cargo test -p ipc-tests --test kill` looks at a copy of every distinct state of every operation below, and
`cargo run --release -p ipc-tests --bin kill -- --mode all` kills at the instructions themselves. After a change,
`cargo run -p ipc-tests --bin kill -- --recovery docs/recovery.md` writes this page anew. [How to run it
all](#how-to-run-it-all) is at the end.

How to read a row: numbers are messages, oldest first; the victim pushes 100 and the numbers after it. What is left of an
arrow is found if the kill comes before the instruction that publishes or commits, what is right of it afterwards. Where
there is no arrow, the moment makes no difference. A message that is missing on the right of a `pop` was delivered: its
consumer had committed it, and died with it in hand. Where the state says that somebody lives, sleeps or holds something
beside the victim, that is what survivors find; where it says dead, nobody else lives.

Everywhere:

* **Who notices.** The kernel frees the lock byte of a dead participant, whatever it was doing. Nobody is taken for dead
  because it is slow or stopped: a stopped process keeps its byte, and nothing it holds is given away.
* **Who clears up.** Whoever is in the way of a dead one's claim: a process that joins and finds no row free, one that
  asks for a role the dead had, one that waits for a message or a place that the dead had claimed. Each of them finds
  out within 75 ms. `Segment::recover` does it at once, from any process, at any time.
* **If that one dies as well**, nothing has changed but what it had already put right. The next one starts over.
* **Sleepers.** Who is killed between publishing and waking leaves the sleeper for 75 ms at most.

What the harness does not show, and who does:

* Orders of stores that only another processor sees: the loom models (`tests/loom.sh`) and ThreadSanitizer (`tests/tsan.sh`).
* What the disk has after a power cut: `cargo test -p ipc-tests --test powercut`. The rows of `ids` and `journal` only say
  what is found if the disk has everything.
* The middle of a system call: it is killed before and after it, and asleep in it.
* A string instruction is stepped through repetition by repetition; there is none in the hot paths, and none is relied on.
* Children that are forked while a handle is in use, with or without the handlers of the C library: they cannot use what
  they inherit (`cargo test -p ipc-tests --test pair`), and so nothing of theirs is there to be killed.
* Other processors than x86-64, whose load-linked loops never end when they are stepped: the command says `skipped`.
";

const FOOT: &str = "
## How to run it all

| command | does |
|---|---|
| `cargo test -p ipc-tests --test kill` | (A) a copy of each distinct state of each row, and some real kills; in the README's test command |
| `cargo run --release -p ipc-tests --bin kill -- --mode all` | (B) kills after each instruction, (C) stops there and goes on, (D) two at a time, (E) kills those who clear up |
| the same with `--quick` | a sample of that, with a least number of kills for each row |
| the same with `--soak 180` | instead: workers at full speed, killed at random, and ledgers of what each has done |
| the same with `--only mpmc/push` | the rows whose names begin so |
| `cargo run -p ipc-tests --bin kill -- --mode all --quick` | that sample on a debug build, whose operations have several times as many instructions |
| `tests/mutants.sh kill` | takes one defence out at a time; the check that its patch names must fail |

It prints its seed, and `--seed` repeats the sample. Operations of up to 2,000 instructions are killed at every one of them;
longer ones wherever the region, a lock or a file changed, at the entry and the exit of each system call, asleep in it, and
at a sample of the rest, whose number is printed. Where a sample of a recovery will do, recoverers of one kind are killed at
the points of one that was gone through instruction by instruction; one that comes by another way is gone through afresh. Each
operation in each state has a least number of kills, each proved by the address at which the victim stood and by its exit
status; less is a violation. Short operations are gone over again until it is reached. What each kind and mode took is printed
at the end. Clearing up may take 5 ms, and 100 ms may pass from the kill until it is done; whoever is over a limit is
measured again on a new kill at the same instruction, up to three times, so that a busy machine is no violation. The
time that the harness itself waited for a processor is printed beside it.
";

/// The whole page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for adapter in adapter::all() {
        section(&mut page, *adapter);
    }
    page + FOOT
}

fn section(page: &mut String, adapter: &dyn Adapter) {
    *page += &format!("\n## `{}`\n\n{}\n", adapter.kind(), adapter.account());
    *page += "\n| operation | in the state | the others find |\n|---|---|---|\n";
    for case in adapter.cases() {
        let between = if case.any_order { ", or " } else { " → " };
        let found = case.outcomes.join(between);
        *page += &format!("| {} | {} | {found} |\n", case.operation, case.state);
    }
    let pairs = adapter.pairs();
    if pairs.is_empty() {
        return;
    }
    *page += "\nTwo at the same time, one or both of them killed in any state:\n";
    *page += "\n| one | the other | in the state | the others find one of |\n|---|---|---|---|\n";
    for pair in pairs {
        let (first, second) = (&pair.first, &pair.second);
        let found = pair.outcomes.join(", or ");
        let line = format!(
            "| {} | {} | {} | {found} |\n",
            first.operation, second.operation, first.state
        );
        *page += &line;
    }
}

//! The pairs of examples: two real processes each, in either order, and one that starts the other.

use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A producer, a consumer, and what they say.
struct Pair {
    producer: &'static str,
    consumer: &'static str,
    sent: &'static str,
    took: &'static str,
}

const PAIRS: [Pair; 7] = [
    Pair {
        producer: env!("CARGO_BIN_EXE_spsc_producer"),
        consumer: env!("CARGO_BIN_EXE_spsc_consumer"),
        sent: "producer: sent 1000000 ticks\n",
        took: "consumer: took 1000000 ticks, highest price 100.99\n",
    },
    Pair {
        producer: env!("CARGO_BIN_EXE_mpmc_producer"),
        consumer: env!("CARGO_BIN_EXE_mpmc_consumer"),
        sent: "producer: sent 100000 jobs\n",
        took: "consumer: did 100000 jobs, sum 499999500000\n",
    },
    Pair {
        producer: env!("CARGO_BIN_EXE_broadcast_producer"),
        consumer: env!("CARGO_BIN_EXE_broadcast_consumer"),
        sent: "producer: published 1000000 prices\n",
        took: "consumer: followed 1000000 prices, the last is 100.99\n",
    },
    Pair {
        producer: env!("CARGO_BIN_EXE_bytes_producer"),
        consumer: env!("CARGO_BIN_EXE_bytes_consumer"),
        sent: "producer: sent 300000 lines\n",
        took: "consumer: took 300000 lines, 2250000 times x\n",
    },
    Pair {
        producer: env!("CARGO_BIN_EXE_lanes_producer"),
        consumer: env!("CARGO_BIN_EXE_lanes_consumer"),
        sent: "producer: sent 200000 reports\n",
        took: "consumer: took 200000 reports\n",
    },
    Pair {
        producer: env!("CARGO_BIN_EXE_channel_producer"),
        consumer: env!("CARGO_BIN_EXE_channel_consumer"),
        sent: "producer: sent 200000 orders\n",
        took: "consumer: bought 650000 pieces, cancelled 150000 orders\n",
    },
    Pair {
        producer: env!("CARGO_BIN_EXE_journal_producer"),
        consumer: env!("CARGO_BIN_EXE_journal_consumer"),
        sent: "producer: appended 100000 entries\n",
        took: "consumer: read 100000 entries, all of them durable\n",
    },
];

/// A directory for segments of one's own.
fn room() -> TempDir {
    // The framework makes the directory below it, with the mode it wants.
    tempfile::Builder::new()
        .prefix("ipc-test-")
        .tempdir_in("/dev/shm")
        .expect("a directory in /dev/shm")
}

fn command(room: &TempDir, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("IPC_DIR", room.path().join("ipc"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn segments(room: &TempDir) -> usize {
    std::fs::read_dir(room.path().join("ipc")).map_or(0, Iterator::count)
}

fn check(output: &Output, expected: &str) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert_eq!(err, "");
}

// Would catch an example that works only if one side comes first, and a segment that it leaves.
#[test]
fn either_side_may_come_first() {
    let orders = PAIRS.iter().flat_map(|pair| {
        let (producer, consumer) = ((pair.producer, pair.sent), (pair.consumer, pair.took));
        [[producer, consumer], [consumer, producer]]
    });
    for order in orders {
        let room = room();
        let [first, second] =
            order.map(|(program, _)| move |room: &TempDir| command(room, program, &[]).spawn());
        let first = first(&room).expect("it starts");
        let start = Instant::now();
        while segments(&room) == 0 {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "it makes no ring"
            );
            thread::sleep(Duration::from_millis(1));
        }
        let second = second(&room).expect("it starts");
        let outputs = [first, second].map(|child| child.wait_with_output().expect("it ends"));
        for ((_, says), output) in order.iter().zip(&outputs) {
            check(output, says);
        }
        assert_eq!(segments(&room), 0);
    }
}

// Would catch a program that cannot start its other half, and one that does not wait for it.
#[test]
fn either_side_can_start_the_other() {
    let programs = PAIRS
        .iter()
        .flat_map(|pair| [(pair.producer, pair), (pair.consumer, pair)]);
    for (program, pair) in programs {
        let room = room();
        let output = command(&room, program, &["--role", "both"])
            .output()
            .expect("it starts");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| format!("{line}\n"))
            .collect();
        lines.sort();
        assert_eq!(lines, [pair.took, pair.sent]);
        assert_eq!(segments(&room), 0);
    }
}

//! The rings and locks between threads of one process, where race detectors can see both sides.
//!
//! `tests/tsan.sh` runs this suite under ThreadSanitizer, with payloads copied by plain loads and stores: a payload that is
//! touched without being owned is a data race that it reports. Broadcast rings are not here: their readers copy what may be written over, and
//! find out afterwards, which is a race by design. The detector cannot see into the standard library, and so
//! not into the test harness, nor that memory has been unmapped: each case is a process of its own.

use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use ipc_core::event::Wait;
use ipc_core::ids::Ids;
use ipc_core::segment::Place;
use ipc_core::sync::{Attach as _, Mutex, RwLock};
use ipc_ring::{PopError, Ring as _, bytes, channel, lanes, mpmc, spsc};

/// Messages per producer; fewer than would tire a race detector.
const MESSAGES: u64 = 5_000;

/// A message whose parts contradict each other if it is torn.
fn message(number: u64) -> [u64; 4] {
    [number, !number, number.rotate_left(17), number ^ 0x5555]
}

// A slot that is written before it has been read, or read before it is whole.
fn spsc(wait: Wait) -> Vec<JoinHandle<()>> {
    let ring = spsc::Ring::<[u64; 4]>::options()
        .capacity(8)
        .create(Place::Anonymous)
        .unwrap();
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    producer.set_wait(wait);
    consumer.set_wait(wait);
    let pushing = thread::spawn(move || {
        for number in 0..MESSAGES {
            producer.push(message(number)).unwrap();
        }
        producer.close();
    });
    let popping = thread::spawn(move || {
        for number in 0..MESSAGES {
            assert_eq!(consumer.pop().unwrap(), message(number));
        }
        assert_eq!(consumer.pop(), Err(PopError::Closed));
    });
    vec![pushing, popping]
}

// The same for records of different lengths, which meet the seam of the arena at every place.
fn bytes(wait: Wait) -> Vec<JoinHandle<()>> {
    let ring = bytes::Ring::options()
        .capacity(4096)
        .create(Place::Anonymous)
        .unwrap();
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    producer.set_wait(wait);
    consumer.set_wait(wait);
    let record = |number: u64| vec![number as u8; (number % 300) as usize];
    let pushing = thread::spawn(move || {
        for number in 0..MESSAGES {
            producer.push(&record(number)).unwrap();
        }
        producer.close();
    });
    let popping = thread::spawn(move || {
        let mut got = Vec::new();
        for number in 0..MESSAGES {
            consumer.pop(&mut got).unwrap();
            assert_eq!(got, record(number));
        }
        assert_eq!(consumer.pop(&mut got), Err(PopError::Closed));
    });
    vec![pushing, popping]
}

// A record of one lane that is read by the head of another, and a tail that is seen before its record.
fn lanes(wait: Wait) -> Vec<JoinHandle<()>> {
    const LANES: u64 = 3;
    let ring = lanes::Ring::options()
        .capacity(1024)
        .lanes(LANES as usize)
        .create(Place::Anonymous)
        .unwrap();
    let mut consumer = ring.consumer().unwrap();
    consumer.set_wait(wait);
    let record = |number: u64| {
        let words = message(number).map(u64::to_ne_bytes);
        words.as_flattened()[..8 + (number % 25) as usize].to_vec()
    };
    let pushing = (0..LANES).map(|lane| {
        let mut producer = ring.producer().unwrap();
        producer.set_wait(wait);
        thread::spawn(move || {
            for number in 0..MESSAGES {
                producer.push(&record(lane * MESSAGES + number)).unwrap();
            }
        })
    });
    let pushing: Vec<_> = pushing.collect();
    let popping = thread::spawn(move || {
        let (mut got, mut next) = (Vec::new(), [0; LANES as usize]);
        for _ in 0..LANES * MESSAGES {
            consumer.pop(&mut got).unwrap();
            let number = u64::from_ne_bytes(got[..8].try_into().unwrap());
            assert_eq!(got, record(number));
            let lane = (number / MESSAGES) as usize;
            assert_eq!(number % MESSAGES, next[lane], "a lane out of order");
            next[lane] += 1;
        }
        assert!(ring.is_empty());
    });
    pushing.into_iter().chain([popping]).collect()
}

// The same for values, which are written where there is room for a longer one.
fn channel(wait: Wait) -> Vec<JoinHandle<()>> {
    let ring = channel::Ring::<(u64, String)>::options()
        .capacity(4096)
        .create(Place::Anonymous)
        .unwrap();
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    producer.set_wait(wait);
    consumer.set_wait(wait);
    let value = |number: u64| (number, "x".repeat((number % 400) as usize));
    let pushing = thread::spawn(move || {
        for number in 0..MESSAGES {
            producer.push(&value(number)).unwrap();
        }
    });
    let popping = thread::spawn(move || {
        for number in 0..MESSAGES {
            assert_eq!(consumer.pop().unwrap(), value(number));
        }
    });
    vec![pushing, popping]
}

// Two owners of one slot, or a message that is delivered twice or not at all.
fn mpmc(wait: Wait) -> Vec<JoinHandle<()>> {
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    static SUM: AtomicU64 = AtomicU64::new(0);
    const ALL: u64 = 3 * MESSAGES;
    let ring = mpmc::Ring::<[u64; 4]>::options()
        .capacity(8)
        .create(Place::Anonymous)
        .unwrap();
    let pushing = (0..3).map(|producer| {
        let mut end = ring.producer().unwrap();
        end.set_wait(wait);
        thread::spawn(move || {
            for number in 0..MESSAGES {
                end.push(message(producer * MESSAGES + number)).unwrap();
            }
        })
    });
    let popping = (0..2).map(|_| {
        let mut end = ring.consumer().unwrap();
        end.set_wait(wait);
        thread::spawn(move || {
            let mut last = [None; 3];
            loop {
                match end.pop() {
                    Ok(got) => {
                        assert_eq!(got, message(got[0]));
                        let from = (got[0] / MESSAGES) as usize;
                        assert!(
                            last[from] < Some(got[0]),
                            "the messages of a producer out of order"
                        );
                        last[from] = Some(got[0]);
                        SUM.fetch_add(got[0], Relaxed);
                        if TAKEN.fetch_add(1, Relaxed) + 1 == ALL {
                            end.close();
                            return;
                        }
                    }
                    Err(PopError::Closed) => return,
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    let workers: Vec<_> = pushing.chain(popping).collect();
    let check = thread::spawn(move || {
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        assert_eq!(
            (TAKEN.load(Relaxed), SUM.load(Relaxed)),
            (ALL, ALL * (ALL - 1) / 2)
        );
    });
    vec![check]
}

// One id for two threads.
fn ids(_: Wait) -> Vec<JoinHandle<()>> {
    static SUM: AtomicU64 = AtomicU64::new(0);
    const ALL: u64 = 4 * MESSAGES;
    let ids = Ids::create(Place::Anonymous).unwrap();
    let drawing = (0..4).map(|_| {
        let ids = ids.clone();
        thread::spawn(move || {
            (0..MESSAGES).for_each(|_| _ = SUM.fetch_add(ids.next().unwrap(), Relaxed))
        })
    });
    let drawing: Vec<_> = drawing.collect();
    let check = thread::spawn(move || {
        drawing
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        assert_eq!(SUM.load(Relaxed), ALL * (ALL + 1) / 2);
    });
    vec![check]
}

// A lock that two threads have at a time, or whose next holder does not see what the last one did.
fn mutex(wait: Wait) -> Vec<JoinHandle<()>> {
    let mut mutex = Mutex::<[u64; 4]>::create(Place::Anonymous, ()).unwrap();
    mutex.set_wait(wait);
    mutex.lock().unwrap().set(&message(0));
    let mutex = Arc::new(mutex);
    let work = |mutex: Arc<Mutex<[u64; 4]>>| {
        for _ in 0..MESSAGES {
            let mut guard = mutex.lock().unwrap();
            let [number, ..] = guard.get();
            assert_eq!(guard.get(), message(number));
            guard.set(&message(number + 1));
        }
    };
    let workers = [(); 3].map(|()| {
        let mutex = mutex.clone();
        thread::spawn(move || work(mutex))
    });
    let check = thread::spawn(move || {
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        assert_eq!(mutex.lock().unwrap().get(), message(3 * MESSAGES));
    });
    vec![check]
}

// A reader that is in with a writer.
fn rwlock(wait: Wait) -> Vec<JoinHandle<()>> {
    let mut lock = RwLock::<[u64; 4]>::create(Place::Anonymous, 64).unwrap();
    lock.set_wait(wait);
    lock.write().unwrap().set(&message(0));
    let lock = Arc::new(lock);
    let spawn = |every: u64| {
        let lock = lock.clone();
        thread::spawn(move || {
            for turn in 1..MESSAGES / 4 {
                if turn % every == 0 {
                    let mut guard = lock.write().unwrap();
                    let [number, ..] = guard.get();
                    guard.set(&message(number + 1));
                } else {
                    let value = lock.read().unwrap().get();
                    assert_eq!(value, message(value[0]));
                }
            }
        })
    };
    vec![spawn(2), spawn(5), spawn(50)]
}

type Case = (&'static str, fn(Wait) -> Vec<JoinHandle<()>>);

const CASES: [Case; 8] = [
    ("spsc", spsc),
    ("bytes", bytes),
    ("lanes", lanes),
    ("channel", channel),
    ("mpmc", mpmc),
    ("ids", ids),
    ("mutex", mutex),
    ("rwlock", rwlock),
];

const WAITS: [(&str, Wait); 3] = [
    ("spin", Wait::Spin),
    ("adaptive", Wait::Adaptive),
    ("block", Wait::Block),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [case, wait, run] = &arguments[..]
        && run == "--here"
    {
        let case = CASES
            .iter()
            .find(|(name, _)| name == case)
            .expect("a case")
            .1;
        let wait = WAITS
            .iter()
            .find(|(name, _)| name == wait)
            .expect("a wait")
            .1;
        case(wait)
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        return ExitCode::SUCCESS;
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    let (mut passed, mut failed) = (0, 0);
    for (case, _) in CASES
        .iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| name.contains(wanted.as_str())))
    {
        for (wait, _) in WAITS {
            let me = std::env::current_exe().expect("this program");
            let status = Command::new(me)
                .args([case, wait, "--here"])
                .status()
                .expect("this program again");
            println!(
                "test {case}_between_threads_{wait} ... {}",
                if status.success() { "ok" } else { "FAILED" }
            );
            *(if status.success() {
                &mut passed
            } else {
                &mut failed
            }) += 1;
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}

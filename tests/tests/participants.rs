//! Who is attached and who has died: one test for each row of the fault table, named after it.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use ipc_core::Mapped;
use ipc_core::memory::Area;
use ipc_core::participant::{Life, ParticipantId, Participants, ROW};
use ipc_core::segment::{Kind, ObjectSpec, Place, Segment, SegmentError, SegmentOptions};
use ipc_core::sync::{Attach, LockError, Mutex};
use ipc_tests::peers::{Peer, directory, eventually};
use nix::sys::signal::Signal;

/// How late a death may be known.
const KNOWN: Duration = Duration::from_millis(100);

const PEER: &str = env!("CARGO_BIN_EXE_ipc-peer");

struct Stage {
    segment: Segment,
    path: String,
    directory: tempfile::TempDir,
}

fn options() -> SegmentOptions {
    SegmentOptions::new().object("m", Mutex::<u64>::spec(()).expect("spec"))
}

impl Stage {
    fn new(options: &SegmentOptions) -> Self {
        let directory = directory();
        let path = directory.path().join("segment");
        let segment = options.create(Place::Path(path.clone())).expect("create");
        Self {
            segment,
            path: path.display().to_string(),
            directory,
        }
    }

    fn peer(&self) -> Peer {
        self.by(&mut Command::new(PEER))
    }

    fn by(&self, command: &mut Command) -> Peer {
        let mut peer = Peer::start(command);
        peer.say(&format!("open {}", self.path));
        assert_eq!(peer.hear(), "open");
        peer
    }

    fn is_dead(&self, id: ParticipantId) -> bool {
        matches!(self.segment.life(id), Life::Dead(_))
    }

    fn is_alive(&self, id: ParticipantId) -> bool {
        matches!(self.segment.life(id), Life::Alive(_))
    }

    /// The death becomes known in time, is recovered once, and the row is free.
    fn dies_in_time(&self, id: ParticipantId) {
        let took = eventually("the death is known", || self.is_dead(id));
        println!("known after {took:?}");
        assert!(took < KNOWN, "{took:?}");
        assert!(self.segment.recover(id));
        assert_eq!(self.segment.life(id), Life::Free);
        assert!(!self.segment.recover(id));
    }
}

fn join(peer: &mut Peer) -> ParticipantId {
    ask(peer, "join")
        .parse()
        .ok()
        .and_then(ParticipantId::new)
        .expect("a number")
}

fn ask(peer: &mut Peer, what: &str) -> String {
    peer.say(what);
    peer.hear()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Kills a process that is not our child, on drop.
struct Stray(i32);

impl Stray {
    fn of(answer: &str) -> Self {
        Self(answer.parse().expect("a process id"))
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0), Signal::SIGKILL);
    }
}

#[test]
fn f05_a_zombie_is_dead() {
    // Would catch liveness by process id: a zombie still has one.
    let stage = Stage::new(&options());
    let mut peer = stage.peer();
    let id = join(&mut peer);
    assert!(stage.is_alive(id));
    peer.kill_unreaped();
    stage.dies_in_time(id);
    let state = std::fs::read_to_string(format!("/proc/{}/stat", peer.pid())).expect("not reaped");
    assert!(state.contains(") Z "), "{state}");
}

#[test]
fn f06_a_process_id_used_again_is_not_the_dead_one() {
    // Would catch a proof of life that asks for the id alone. The dead one's byte is kept locked by a stray child, so the
    // process is all there is to ask.
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    if !is_root() || std::fs::OpenOptions::new().write(true).open(LAST).is_err() {
        println!("skipped: only root may choose process ids ({LAST})");
        return;
    }
    let stage = Stage::new(&options());
    let mut peer = stage.peer();
    let id = join(&mut peer);
    let _stray = Stray::of(&ask(&mut peer, "clone"));
    assert!(stage.is_alive(id));
    let pid = peer.pid();
    peer.kill();
    let impostor = (0..2000).find_map(|_| {
        std::fs::write(LAST, (pid - 1).to_string()).expect("root may");
        let other = Peer::start(&mut Command::new(PEER));
        (other.pid() == pid).then_some(other)
    });
    let Some(impostor) = impostor else {
        println!("skipped: the process id {pid} was not to be had again");
        return;
    };
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    assert!(stage.is_dead(id), "taken for the impostor {impostor:?}");
    assert!(stage.segment.recover(id));
}

#[test]
fn f07_processes_in_other_pid_namespaces() {
    // Would catch process ids compared across namespaces: both peers are number 1 of theirs.
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--kill-child", "--fork", "--pid", "--mount-proc", PEER]);
        command
    };
    if !can_unshare(&["--fork", "--pid", "--mount-proc"]) {
        return;
    }
    let stage = Stage::new(&options());
    let (mut a, mut b) = (stage.by(&mut unshare()), stage.by(&mut unshare()));
    let (id_a, id_b) = (join(&mut a), join(&mut b));
    assert_eq!(
        (ask(&mut a, "pid"), ask(&mut b, "pid")),
        ("1".into(), "1".into())
    );
    assert_eq!(ask(&mut b, &format!("life {}", id_a.get())), "alive 1");
    assert!(stage.is_alive(id_a) && stage.is_alive(id_b));
    a.kill();
    let start = Instant::now();
    let dead = format!("life {}", id_a.get());
    eventually("the other one knows", || ask(&mut b, &dead) == "dead 1");
    println!("known after {:?}", start.elapsed());
    assert!(start.elapsed() < KNOWN);
    assert_eq!(ask(&mut b, &format!("recover {}", id_a.get())), "true");
    assert!(stage.is_alive(id_b));
}

#[test]
fn f08_processes_in_another_time_namespace() {
    // Would catch start times that are compared although the two clocks differ by a day.
    let arguments = [
        "--fork",
        "--kill-child",
        "--time",
        "--boottime",
        "100000",
        "--monotonic",
        "100000",
    ];
    if !can_unshare(&arguments) {
        return;
    }
    let stage = Stage::new(&options());
    let us = stage.segment.participant().expect("join");
    let mut peer = stage.by(Command::new("unshare").args(arguments).arg(PEER));
    let id = join(&mut peer);
    assert!(stage.is_alive(id));
    let seen = ask(&mut peer, &format!("life {}", us.get()));
    assert_eq!(seen, format!("alive {}", std::process::id()));
    peer.kill();
    stage.dies_in_time(id);
}

/// Whether `unshare` can do this here; says so if not.
fn can_unshare(arguments: &[&str]) -> bool {
    let done = Command::new("unshare").args(arguments).arg("true").output();
    let can = done.as_ref().is_ok_and(|output| output.status.success());
    if !can {
        println!(
            "skipped: `unshare {}` does not work here: {done:?}",
            arguments.join(" ")
        );
    }
    can
}

#[test]
fn f09_a_forked_child_does_not_keep_its_dead_parent_alive() {
    // Would catch a life byte that is inherited: the lock belongs to the file description, which the child shares.
    let stage = Stage::new(&options());
    let mut peer = stage.peer();
    let id = join(&mut peer);
    assert_eq!(ask(&mut peer, "forked"), "refused");
    assert!(
        stage.is_alive(id),
        "the end of the child took the parent's life"
    );
    let _child = Stray::of(&ask(&mut peer, "fork"));
    peer.kill();
    stage.dies_in_time(id);
}

#[test]
fn f09_nor_does_one_made_without_fork_handlers() {
    // Would catch trust in `pthread_atfork` alone: a raw clone runs no handlers, and keeps the byte.
    let stage = Stage::new(&options());
    let mut peer = stage.peer();
    let id = join(&mut peer);
    let child = Stray::of(&ask(&mut peer, "clone"));
    peer.kill();
    stage.dies_in_time(id);
    // The row is free, but its byte is not: newcomers take another, until the child ends.
    let mut next = stage.peer();
    assert_ne!(join(&mut next), id);
    drop(child);
    let mut third = stage.peer();
    eventually("the row can be had again", || {
        third.say("leave");
        third.hear();
        third.say(&format!("open {}", stage.path));
        third.hear();
        join(&mut third) == id
    });
}

#[test]
fn f03_a_recoverer_killed_half_way_leaves_its_byte_to_nobody() {
    // Would catch a recovery byte that a stray child of the recoverer keeps: nobody could ever clear that row.
    const TAG: [u8; 8] = *b"test\0\0\0\0";
    let spec = ObjectSpec {
        kind: TAG,
        version: 1,
        len: 64,
        schema: String::new(),
        parameters: [0; 2],
    };
    let stage = Stage::new(&options().object("t", spec));
    stage.segment.learn(&[Kind {
        tag: TAG,
        version: 1,
        recover: |_, _, _| Ok(()),
    }]);
    let (mut dead, mut recoverer) = (stage.peer(), stage.peer());
    let id = join(&mut dead);
    let _stray = Stray::of(&ask(&mut recoverer, "clone"));
    dead.kill();
    let half = format!("half-recover {}", id.get());
    assert_eq!(ask(&mut recoverer, &half), "recovering");
    assert!(!stage.segment.recover(id), "two recover at once");
    recoverer.kill();
    let took = eventually("the row is cleared", || stage.segment.recover(id));
    println!("cleared after {took:?}");
    assert!(took < KNOWN, "{took:?}");
    assert_eq!(stage.segment.life(id), Life::Free);
}

#[test]
fn objects_of_another_version_are_left_to_those_who_know_it() {
    // Would catch a recovery that takes the words of a later layout for its own: a lock of another version, say.
    let mut spec = Mutex::<u64>::spec(()).expect("spec");
    spec.version += 1;
    let kind = spec.kind;
    let version = spec.version;
    let stage = Stage::new(&options().object("later", spec));
    let mut dead = stage.peer();
    let id = join(&mut dead);
    dead.kill();
    eventually("the death is known", || stage.is_dead(id));
    assert!(!stage.segment.recover(id), "nobody here knows how");
    assert!(stage.is_dead(id), "its row is taken until somebody does");
    stage.segment.learn(&[Kind {
        tag: kind,
        version,
        recover: |_, _, _| Ok(()),
    }]);
    assert!(stage.segment.recover(id));
    assert_eq!(stage.segment.life(id), Life::Free);
}

#[test]
fn f18_recovery_needs_no_spare_descriptor() {
    // Would catch a row that waits for a recoverer with descriptors to spare, and an error that does not say what is short.
    let stage = Stage::new(&options());
    let (mut dead, mut recoverer) = (stage.peer(), stage.peer());
    let id = join(&mut dead);
    dead.kill();
    let crowded = format!("crowded {} {}", id.get(), stage.path);
    let answer = ask(&mut recoverer, &crowded);
    assert!(answer.starts_with("true, "), "{answer}");
    assert!(answer.contains("Too many open files"), "{answer}");
    assert_eq!(stage.segment.life(id), Life::Free);
}

#[test]
fn f10_a_shared_descriptor_gives_each_its_own_life() {
    // Would catch locks taken on an inherited file description: those of all its holders never conflict.
    let segment = options()
        .create(Place::Memfd("shared".into()))
        .expect("create");
    // Not close-on-exec: the peers inherit it.
    let shared = rustix::io::dup(segment.as_fd()).expect("dup");
    let mut peers = [(); 2].map(|()| Peer::start(&mut Command::new(PEER)));
    for peer in &mut peers {
        assert_eq!(ask(peer, &format!("adopt {}", shared.as_raw_fd())), "open");
    }
    drop(shared);
    let [mut a, mut b] = peers;
    let (id_a, id_b) = (join(&mut a), join(&mut b));
    assert_ne!(id_a, id_b);
    a.kill();
    eventually("its death is known", || {
        matches!(segment.life(id_a), Life::Dead(_))
    });
    assert!(matches!(segment.life(id_b), Life::Alive(_)));
    assert_eq!(ask(&mut b, &format!("recover {}", id_a.get())), "true");
}

#[test]
fn f11_unlinking_ends_no_life_and_lends_none() {
    // Would catch locks that are looked for by name: the name belongs to another file by now.
    let stage = Stage::new(&options());
    let mut peer = stage.peer();
    let id = join(&mut peer);
    let path = stage.directory.path().join("segment");
    Segment::unlink(Place::Path(path.clone())).expect("unlink");
    let anew = options().create(Place::Path(path)).expect("create");
    assert!(stage.is_alive(id));
    assert_eq!(anew.life(id), Life::Free);
    peer.kill();
    stage.dies_in_time(id);
}

#[test]
fn f12_whoever_is_left_behind_can_find_out() {
    // Would catch a process that goes on for ever with a segment that nobody else can find.
    let stage = Stage::new(&options());
    stage.segment.check().expect("all is well");
    let path = stage.directory.path().join("segment");
    Segment::unlink(Place::Path(path.clone())).expect("unlink");
    let anew = options().create(Place::Path(path)).expect("create");
    assert!(matches!(stage.segment.check(), Err(SegmentError::Replaced)));
    anew.check().expect("all is well");
}

#[test]
fn f04_a_stopped_process_is_alive() {
    // Would catch any timeout, and recovery that takes anything from the living.
    let stage = Stage::new(&options());
    let mut peer = stage.peer();
    let id = join(&mut peer);
    peer.signal(Signal::SIGSTOP);
    let end = Instant::now() + Duration::from_millis(300);
    while Instant::now() < end {
        assert!(stage.is_alive(id));
        assert!(!stage.segment.recover(id));
    }
    peer.signal(Signal::SIGCONT);
    assert_eq!(ask(&mut peer, "pid"), peer.pid().to_string());
}

#[test]
fn f41_a_process_in_uninterruptible_sleep_is_alive() {
    // Would catch a proof of death by silence: such a process answers nothing, and may go on.
    let stage = Stage::new(&options());
    let mut peer = stage.peer();
    let id = join(&mut peer);
    assert_eq!(ask(&mut peer, "stick"), "stuck");
    let pid = peer.pid();
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("runs");
    eventually("it is in uninterruptible sleep", || {
        state().contains(") D ")
    });
    let end = Instant::now() + Duration::from_millis(200);
    while Instant::now() < end {
        assert!(stage.is_alive(id));
        assert!(!stage.segment.recover(id));
    }
    peer.kill();
    stage.dies_in_time(id);
}

#[test]
fn f35_a_hostile_lock_word_holds_nobody_up() {
    // Would catch an index taken from the word unchecked, and a wait without end.
    let mutex = Mutex::<u64>::create(Place::Anonymous, ()).expect("create");
    let word = mutex.object().area().word32(0).expect("fits");
    let over = AtomicBool::new(false);
    let calls = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = 0x2545_f491_4f6c_dd1d_u64;
            while !over.load(SeqCst) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                // The end of the lock would end the test.
                word.store((random >> 16) as u32 & !(1 << 31), SeqCst);
                (0..random % 512).for_each(|_| std::hint::spin_loop());
            }
        });
        let end = Instant::now() + Duration::from_millis(800);
        while Instant::now() < end {
            let start = Instant::now();
            match mutex.lock_until(start + Duration::from_millis(5)) {
                Ok(_) => {}
                Err(LockError::OwnerDied(mut guard)) => guard.mark_consistent(),
                Err(LockError::TimedOut) => {}
                // Our own guard found at its end that a holder died, and nobody has repaired: for a moment only here.
                Err(LockError::Poisoned) => {}
                Err(other) => panic!("{other:?}"),
            }
            assert!(
                start.elapsed() < Duration::from_secs(2),
                "{:?}",
                start.elapsed()
            );
            calls.fetch_add(1, SeqCst);
        }
        over.store(true, SeqCst);
    });
    println!("{calls:?} calls");
}

#[test]
fn f36_a_holder_that_never_lets_go_is_told_of() {
    // Would catch a wait without a way out, and one that does not say for whom.
    let stage = Stage::new(&options());
    let mutex = Mutex::<u64>::in_segment(&stage.segment, "m").expect("mutex");
    let mut peer = stage.peer();
    let id = join(&mut peer);
    assert_eq!(ask(&mut peer, "sync hold mutex m"), "held");
    let start = Instant::now();
    assert!(matches!(
        mutex.lock_until(start + Duration::from_millis(150)),
        Err(LockError::TimedOut)
    ));
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(mutex.holder(), Some(id));
}

#[test]
fn f37_a_table_filled_by_the_dead_is_swept() {
    // Would catch rows that are lost with those who had them, and a table that is full of the dead.
    let long = std::env::var_os("IPC_LONG").is_some();
    let deaths = if long { 100_000 } else { 10_000 };
    let stage = Stage::new(&options().participants(16));
    let mut killer = stage.peer();
    let start = Instant::now();
    assert_eq!(ask(&mut killer, &format!("die {deaths}")), "dead");
    println!("{deaths} registrants died in {:?}", start.elapsed());
    let mut peers: Vec<_> = (0..16).map(|_| stage.peer()).collect();
    let mut ids: Vec<_> = peers.iter_mut().map(join).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 16);
    let refusal = ask(&mut killer, "join");
    assert!(refusal.starts_with("refused: all 16 places"), "{refusal}");
    drop(peers.pop());
    assert!(ask(&mut killer, "join").parse::<u16>().is_ok());
}

#[test]
fn f38_generations_wrap() {
    // Would catch a generation that carries into the bit beside it.
    let stage = Stage::new(&options());
    let object = stage.segment.object("m").expect("object");
    let memory: &Mapped = object.area().memory();
    let at = stage.segment.header().participants_offset as usize;
    let table = Area::new(memory.clone(), at, ROW).expect("fits");
    let state = table.word64(0).expect("fits");
    // Free, three generations before the last.
    state.store(u64::MAX - 1 - 3 * 2, SeqCst);
    let participants = Participants::new(table).expect("fits");
    for _ in 0..8 {
        let id = participants.join(|_| true).expect("a row");
        assert!(matches!(participants.life(id), Life::Alive(_)));
        assert_eq!(state.load(SeqCst) & 1, 1);
        participants.leave(id);
        assert_eq!(participants.life(id), Life::Free);
    }
    assert_eq!(state.load(SeqCst), (8 - 4) * 2, "{:#x}", state.load(SeqCst));
    assert!(memory.is_here());
}

#[test]
fn f39_signals_interrupt_nothing_for_good() {
    // Would catch a system call whose EINTR is taken for a failure, and a wait that a signal ends early.
    let stage = Stage::new(&options());
    let millis = if std::env::var_os("IPC_LONG").is_some() {
        60_000
    } else {
        1500
    };
    let mut peers = [stage.peer(), stage.peer()];
    for peer in &mut peers {
        peer.say(&format!("soak {} {millis}", stage.path));
    }
    let mut sum = 0;
    for peer in &mut peers {
        let answer = peer.hear();
        println!("{answer}");
        let counts: Vec<u64> = answer
            .split(' ')
            .map(|word| word.parse().expect("a number"))
            .collect();
        assert!(
            counts[0] > 0 && counts[0] == counts[1],
            "a wait ended before its deadline"
        );
        sum += counts[0];
    }
    let mutex = Mutex::<u64>::in_segment(&stage.segment, "m").expect("mutex");
    assert_eq!(mutex.lock().expect("free").get(), sum);
}

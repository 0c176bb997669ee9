//! Children of a test, places that vanish with it, and the run as an ordinary user.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ipc_core::region::Region;
use ipc_core::segment::{ObjectSpec, SegmentOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A directory on tmpfs that vanishes with the value.
pub fn scratch() -> TempDir {
    tempfile::Builder::new()
        .prefix("ipc-segments-")
        .tempdir_in("/dev/shm")
        .unwrap()
}

/// A directory on whatever temporary files lie on: a disk, as a rule.
pub fn scratch_on_disk() -> TempDir {
    tempfile::Builder::new()
        .prefix("ipc-segments-")
        .tempdir()
        .unwrap()
}

/// The options of a small segment with one object, of one word.
pub fn small() -> SegmentOptions {
    SegmentOptions::new()
        .participants(4)
        .object("word", word_spec())
}

pub fn word_spec() -> ObjectSpec {
    Region::<std::sync::atomic::AtomicU64>::spec()
}

/// Says why a test, or a part of one, does not run on this machine.
pub fn skipped(reason: impl std::fmt::Display) {
    println!("skipped: {reason}");
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Polls until `done` gives something. Fails after ten seconds: nothing here takes that long but what hangs.
pub fn soon<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(result) = done() {
            return result;
        }
        assert!(Instant::now() < deadline, "{what}: not within ten seconds");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The files in a directory, hidden ones too.
pub fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

const ROLE: &str = "IPC_TEST_ROLE";
const ARGUMENT: &str = "IPC_TEST_ARGUMENT";

/// What a child of a test can do: its name, and the function that is called with the argument.
pub type Role = (&'static str, fn(&Path));

/// A command that runs this test binary again, as the role of that name (see [`ROLES`](crate::ROLES)).
pub fn child(role: &str, argument: impl AsRef<Path>) -> Command {
    child_of(&std::env::current_exe().unwrap(), role, argument)
}

/// The same with a copy of the binary.
pub fn child_of(program: &Path, role: &str, argument: impl AsRef<Path>) -> Command {
    assert!(
        crate::ROLES.iter().any(|(name, _)| *name == role),
        "no role {role}"
    );
    let mut command = Command::new(program);
    command.args([
        "--exact",
        "support::a_child_plays_its_role",
        "--nocapture",
        "--test-threads=1",
    ]);
    command.env(ROLE, role).env(ARGUMENT, argument.as_ref());
    command.env_remove("IPC_DIR").env_remove("XDG_RUNTIME_DIR");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Runs a role to its end, which must be a good one. What it says it skipped is said here.
pub fn play(role: &str, argument: impl AsRef<Path>) {
    let output = child(role, argument).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines()
        .filter(|line| line.starts_with("skipped"))
        .for_each(|line| println!("{line}"));
    assert!(output.status.success(), "{role}: {}\n{said}", output.status);
}

/// As [`skipped`], for a child.
pub fn child_skipped(reason: impl std::fmt::Display) {
    eprintln!("skipped: {reason}");
}

/// Gives a child file systems of its own: what it mounts is gone when it ends. False, and says why, if it may not.
pub fn mounts_of_its_own() -> bool {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    let apart = unshare(CloneFlags::CLONE_NEWNS).and_then(|()| {
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
    });
    if let Err(error) = apart {
        child_skipped(format!("file systems cannot be mounted here: {error}"));
    }
    apart.is_ok()
}

/// A child that is killed and reaped with the value.
#[derive(Debug)]
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that is not our child, killed with the value.
#[derive(Debug)]
pub struct KilledStranger(pub Pid);

impl Drop for KilledStranger {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

/// Where children begin. As a test of its own it does nothing.
#[test]
fn a_child_plays_its_role() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let argument = PathBuf::from(std::env::var_os(ARGUMENT).unwrap());
    let (_, play) = crate::ROLES.iter().find(|(name, _)| *name == role).unwrap();
    play(&argument);
}

/// Everything again, without the rights of root.
#[test]
fn all_of_it_passes_as_an_ordinary_user() {
    // Catches what works only because root may do anything.
    if !is_root() || std::env::var_os(ROLE).is_some() {
        return skipped("this is an ordinary user already");
    }
    let place = scratch_on_disk();
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let copy = place.path().join("segments");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new(&copy);
    command
        .args(["--skip", "all_of_it_passes_as_an_ordinary_user"])
        .current_dir("/");
    command.env_remove("IPC_DIR").env_remove("XDG_RUNTIME_DIR");
    command.uid(65534).gid(65534);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter(|line| line.starts_with("skipped"))
        .for_each(|line| println!("as user 65534: {line}"));
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

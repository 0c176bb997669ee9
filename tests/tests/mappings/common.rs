//! What the tests of mappings share.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

pub(crate) const NOBODY: u32 = 65534;

/// A directory that everybody may use and that vanishes with the value.
pub(crate) fn scratch() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    dir
}

/// A file of `bytes` in such a directory.
pub(crate) fn file_of(bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = scratch();
    let path = dir.path().join("file");
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    (dir, path)
}

pub(crate) fn open(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// How a probe ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) out: String,
    #[expect(dead_code, reason = "read when a failed assertion prints it")]
    err: String,
}

impl Ended {
    /// What it printed, having ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.code == Some(0), "{self:?}");
        self.out
    }
}

/// Runs the probe as this user.
pub(crate) fn probe(arguments: &[&str]) -> Ended {
    end(Command::new(env!("CARGO_BIN_EXE_mapping_probe")).args(arguments))
}

/// Runs the probe as an ordinary user: as nobody where the tests run as root.
pub(crate) fn probe_as_ordinary(arguments: &[&str]) -> Ended {
    if !is_root() {
        return probe(arguments);
    }
    let dir = scratch();
    let copy = dir.path().join("probe");
    // By a process of its own: a descriptor that is open for writing here would be inherited by whatever another thread
    // starts meanwhile, and the probe then be busy.
    let copied = Command::new("install")
        .args(["-m", "755", env!("CARGO_BIN_EXE_mapping_probe")])
        .arg(&copy)
        .status();
    assert!(copied.unwrap().success());
    end(Command::new(&copy).args(arguments).uid(NOBODY).gid(NOBODY))
}

/// Runs the probe as each kind of user, and hands each end to `check`.
pub(crate) fn as_everybody(arguments: &[&str], check: impl Fn(Ended)) {
    check(probe(arguments));
    if is_root() {
        check(probe_as_ordinary(arguments));
    }
}

fn end(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        signal: output.status.signal(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a test in a process of its own, where nobody else takes the addresses that it gives up.
pub(crate) fn alone<F: Fn()>(test: F) {
    const MARK: &str = "MAPPINGS_ALONE";
    if std::env::var_os(MARK).is_some() {
        return test();
    }
    // The closure is named after the test that it lies in: `mappings::module::test::{{closure}}`.
    let name = std::any::type_name::<F>();
    let name = name
        .trim_start_matches("mappings::")
        .trim_end_matches("::{{closure}}");
    let ended = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--test-threads=1", "--nocapture"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&ended.stdout);
    let err = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.success() && out.contains("1 passed"),
        "{name}: {out}{err}"
    );
}

/// The lines of `/proc/self/maps` that share addresses with a range.
pub(crate) fn maps(start: usize, len: usize) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/maps").unwrap();
    text.lines()
        .filter(|line| overlaps(line, start, len))
        .map(String::from)
        .collect()
}

fn overlaps(line: &str, start: usize, len: usize) -> bool {
    let Some((from, to)) = line
        .split_once(' ')
        .and_then(|(range, _)| range.split_once('-'))
    else {
        return false;
    };
    let number = |text| usize::from_str_radix(text, 16).ok();
    matches!((number(from), number(to)), (Some(from), Some(to)) if from < start + len && start < to)
}

/// The number of bytes of a line of `/proc/self/maps`.
pub(crate) fn extent(line: &str) -> usize {
    let (from, to) = line
        .split_once(' ')
        .and_then(|(range, _)| range.split_once('-'))
        .unwrap();
    usize::from_str_radix(to, 16).unwrap() - usize::from_str_radix(from, 16).unwrap()
}

/// The flags that the kernel shows for the mapping at an address.
pub(crate) fn vm_flags(address: usize) -> String {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in smaps.lines() {
        if line
            .split(' ')
            .next()
            .is_some_and(|word| word.contains('-'))
        {
            inside = overlaps(line, address, 1);
        } else if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| inside) {
            return format!("{flags} ");
        }
    }
    panic!("nothing is mapped at {address:#x}");
}

/// What this process has of the pages around an address in memory, in bytes.
pub(crate) fn resident(address: usize) -> usize {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in smaps.lines() {
        if line
            .split(' ')
            .next()
            .is_some_and(|word| word.contains('-'))
        {
            inside = overlaps(line, address, 1);
        } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| inside) {
            return size
                .trim()
                .trim_end_matches(" kB")
                .parse::<usize>()
                .unwrap()
                * 1024;
        }
    }
    panic!("nothing is mapped at {address:#x}");
}

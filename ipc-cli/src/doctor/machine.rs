//! What shared memory needs of the machine.

use std::path::Path;

use ipc_core::memory::Memory;
use ipc_core::segment::{ObjectSpec, Place, Segment, SegmentOptions};
use rustix::fs::{statfs, statvfs};
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use super::{Finding, Kind};
use crate::show;

/// One check, and what came of it.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    #[serde(skip)]
    pub(super) name: &'static str,
    pub(super) found: String,
    /// What is wrong, and what to do; `None` if all is well.
    pub(super) problem: Option<String>,
    /// Something will fail, rather than only be slower.
    #[serde(skip)]
    pub(super) is_serious: bool,
}

impl Check {
    fn new(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            found: found.into(),
            problem: None,
            is_serious: false,
        }
    }

    fn unless(mut self, good: bool, problem: &str, serious: bool) -> Self {
        if !good {
            self.problem = Some(problem.to_owned());
            self.is_serious = serious;
        }
        self
    }

    pub(super) fn finding(&self) -> Option<Finding> {
        let problem = self.problem.as_ref()?;
        let what = format!("{}: {}", self.name, self.found);
        let finding = match self.is_serious {
            true => Finding::problem(Kind::Machine, what),
            false => Finding::note(Kind::Machine, what),
        };
        Some(finding.mend(problem))
    }
}

/// All of them.
pub(super) fn checks(directory: &Path) -> Vec<Check> {
    let mut checks = room(directory);
    checks.extend(limits());
    checks.extend([huge_pages(), membarrier(), processors(), proc()]);
    checks
}

/// The directory, or, where that is not made yet, what it will lie in.
fn nearest(directory: &Path) -> &Path {
    let mut ancestors = directory.ancestors();
    let found = ancestors.find(|path| path.exists());
    found.unwrap_or_else(|| Path::new("/"))
}

fn room(directory: &Path) -> Vec<Check> {
    const LITTLE: u64 = 64 << 20;
    const TMPFS: u64 = 0x0102_1994;
    let place = nearest(directory);
    let shown = show::plain(&place.display().to_string());
    let mut checks = Vec::new();
    match statvfs(place) {
        Ok(system) => {
            let free = system.f_bavail.saturating_mul(system.f_frsize);
            let whole = system.f_blocks.saturating_mul(system.f_frsize);
            let found = format!(
                "{} of {} free at {shown}",
                show::bytes(free),
                show::bytes(whole)
            );
            let problem = "remove segments that nobody needs (`ipc ls`, `ipc rm NAME`), or give it more room: \
                           mount -o remount,size=… /dev/shm";
            checks.push(Check::new("room", found).unless(free >= LITTLE, problem, true));
            let files = format!("{} free", show::count(system.f_favail));
            // Some file systems do not count them.
            let enough = system.f_files == 0 || system.f_favail > 64;
            let problem = "remove files that nobody needs";
            checks.push(Check::new("inodes", files).unless(enough, problem, true));
        }
        Err(error) => checks.push(Check::new("room", format!("cannot ask {shown}: {error}"))),
    }
    if let Ok(system) = statfs(place) {
        let tmpfs = system.f_type as u64 == TMPFS;
        let found = match tmpfs {
            true => format!("{shown} is in memory"),
            false => format!("{shown} is not on tmpfs"),
        };
        let problem = "segments are written back to the disk now and then: set IPC_DIR to a directory below /dev/shm";
        checks.push(Check::new("tmpfs", found).unless(tmpfs, problem, false));
    }
    checks
}

fn limits() -> Vec<Check> {
    let limit = |resource| getrlimit(resource).current;
    let text = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), show::count);
    let (files, size, memory) = (
        limit(Resource::Nofile),
        limit(Resource::Fsize),
        limit(Resource::As),
    );
    vec![
        Check::new("descriptors", text(files)).unless(
            files.is_none_or(|files| files >= 256),
            "each open segment takes two descriptors: ulimit -n 1024",
            false,
        ),
        Check::new("file size", text(size)).unless(
            size.is_none_or(|size| size >= 1 << 30),
            "larger segments cannot be made: ulimit -f unlimited",
            false,
        ),
        Check::new("address space", text(memory)).unless(
            memory.is_none_or(|memory| memory >= 1 << 32),
            "larger segments cannot be mapped: ulimit -v unlimited",
            false,
        ),
    ]
}

fn huge_pages() -> Check {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/meminfo");
    let number = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let total = number("HugePages_Total:").unwrap_or(0);
    let free = number("HugePages_Free:").unwrap_or(0);
    let shared = read("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
    let shared = shared.split(['[', ']']).nth(1).unwrap_or("unknown");
    Check::new(
        "huge pages",
        format!("{free} of {total} free; transparent for shared memory: {shared}"),
    )
}

/// Asks the library, with a piece of memory that nobody else sees.
fn membarrier() -> Check {
    let spec = ObjectSpec {
        kind: *b"probe\0\0\0",
        version: 1,
        len: 64,
        schema: String::new(),
        parameters: [0; 2],
    };
    let made: Result<Segment, _> = SegmentOptions::new()
        .participants(1)
        .object("probe", spec)
        .create(Place::Anonymous);
    let works = made
        .and_then(|segment| segment.object("probe"))
        .map(|object| object.area().memory().takes_part_in_fences());
    let problem =
        "every message to a waiting process costs a fence more: allow the system call membarrier";
    match works {
        Ok(true) => Check::new("membarrier", "works"),
        Ok(false) => Check::new("membarrier", "not available").unless(false, problem, false),
        Err(error) => Check::new("membarrier", format!("cannot be asked: {error}")),
    }
}

fn processors() -> Check {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    Check::new("processors", count.to_string()).unless(
        count > 1,
        "with one processor every hand-over is a switch of processes; allow this one another (taskset)",
        false,
    )
}

fn proc() -> Check {
    let there = Path::new("/proc/self/fd").exists();
    let found = if there { "mounted" } else { "not mounted" };
    let problem = "nobody can tell a dead process from one that lives: mount -t proc proc /proc";
    Check::new("/proc", found).unless(there, problem, true)
}

//! What can be wrong with segments, and with the directory that they lie in.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ipc_core::segment::SegmentError;

use super::mend::{Mend, is_left_over};
use super::{Finding, Kind};
use crate::look::{Condition, Name, Ring, Seen, Wait};
use crate::show;

/// The directory itself, and what killed creators left in it.
pub(super) fn directory(directory: &Path) -> Vec<Finding> {
    let shown = show::plain(&directory.display().to_string());
    let Ok(metadata) = fs::symlink_metadata(directory) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let me = rustix::process::geteuid().as_raw();
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_dir() {
        let what =
            format!("{shown} is not a directory itself, so that no segment is made or found there");
        let mend = "set IPC_DIR to a directory of your own";
        findings.push(Finding::problem(Kind::Mode, what).mend(mend));
    } else if metadata.uid() != me {
        let what = format!("{shown} belongs to user {}, not to {me}", metadata.uid());
        let mend = "set IPC_DIR to a directory of your own";
        findings.push(Finding::problem(Kind::Mode, what).mend(mend));
    } else if mode & 0o077 != 0 {
        let what = format!(
            "{shown} has mode {mode:04o} and is open to others: no segment is made or opened there"
        );
        findings.push(
            Finding::problem(Kind::Mode, what)
                .mend(format!("chmod 700 {shown}"))
                .by(Mend::Close(directory.to_owned())),
        );
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let temporary = name.as_bytes().starts_with(b".") && name.as_bytes().ends_with(b".new");
        if temporary && is_left_over(&path) {
            let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
            let what = format!(
                "{} is what a killed creator left ({})",
                show::plain(&path.display().to_string()),
                show::bytes(bytes)
            );
            findings.push(
                Finding::note(Kind::Leftover, what)
                    .mend("ipc doctor --fix  # the next creator removes it as well")
                    .by(Mend::Sweep(path)),
            );
        }
    }
    findings
}

/// A file whose name no segment can have.
pub(super) fn no_name(directory: &Path, name: &OsStr) -> Finding {
    let path = show::plain(&directory.join(name).display().to_string());
    let what = format!("{path} is not a segment: its name is not UTF-8");
    Finding::note(Kind::Foreign, what).mend("move it elsewhere")
}

/// Looks at all segments twice, `watch` apart if something seems to stand still.
pub(super) fn all(names: &[Name], watch: Duration) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut open = Vec::new();
    for name in names {
        match name.open() {
            Ok(view) => open.push((name, Seen::of(&view), view)),
            // It may have been removed since the directory was read.
            Err(SegmentError::NotFound { .. }) if !name.0.contains('/') && names.len() > 1 => {}
            Err(error) => findings.push(unopened(name, &error)),
        }
    }
    let waiting = open.iter().any(|(_, seen, _)| !seen.waits.is_empty());
    if waiting {
        thread::sleep(watch);
    }
    let mut edges = BTreeMap::new();
    for (name, first, view) in &open {
        let second = Seen::of(view);
        findings.extend(segment(name, &second));
        findings.extend(standstill(name, first, &second, watch));
        for wait in &second.waits {
            depends(&second, wait, &mut edges);
        }
    }
    findings.extend(circles(&edges));
    findings
}

/// Why a segment cannot be opened, and what to do.
fn unopened(name: &Name, error: &SegmentError) -> Finding {
    let remove = format!("ipc rm {}  # what is in it is lost", show::quoted(&name.0));
    let (kind, mend) = match error {
        SegmentError::OtherVersion { .. }
        | SegmentError::OtherByteOrder
        | SegmentError::OtherMachine { .. }
        | SegmentError::UnknownFeatures { .. } => (
            Kind::Version,
            Some(format!(
                "use the release that made it, or, if nobody needs it: {remove}"
            )),
        ),
        SegmentError::NotTrusted { path, .. }
            if fs::symlink_metadata(path).is_ok_and(|file| !file.is_file()) =>
        {
            (Kind::Foreign, Some("move it elsewhere".to_owned()))
        }
        // The message has the command.
        SegmentError::NotTrusted { .. }
        | SegmentError::OpenDirectory { .. }
        | SegmentError::ForeignDirectory { .. }
        | SegmentError::GroupDirectory { .. }
        | SegmentError::NotADirectory { .. } => (Kind::Mode, None),
        SegmentError::NoSegment { .. } | SegmentError::TooShort { .. } => (
            Kind::Foreign,
            Some("move it elsewhere, or remove it with rm".to_owned()),
        ),
        SegmentError::NotFound { .. } | SegmentError::BadName { .. } => (Kind::Broken, None),
        SegmentError::Copied { .. } => (
            Kind::Broken,
            Some(format!(
                "{remove}; or, if the original is gone for good, adopt it (for ids: ipc id adopt)"
            )),
        ),
        SegmentError::Io { .. } | SegmentError::Map(_) => (Kind::Broken, None),
        _ => (Kind::Broken, Some(remove)),
    };
    let what = show::plain(&error.to_string());
    let finding = match kind {
        // It does no harm there.
        Kind::Foreign if name.0.contains('/') => Finding::problem(kind, what),
        Kind::Foreign => Finding::note(kind, what),
        _ => Finding::problem(kind, what),
    };
    let finding = finding.of(&name.0);
    match mend {
        Some(mend) => finding.mend(mend),
        None => finding,
    }
}

/// What one look shows.
fn segment(name: &Name, seen: &Seen) -> Vec<Finding> {
    let shown = show::plain(&name.0);
    let mut findings = Vec::new();
    if let Some(fault) = &seen.fault {
        findings.push(
            Finding::problem(Kind::Broken, fault.clone())
                .of(&shown)
                .mend("end the processes that use it, and start them anew"),
        );
    }
    for object in &seen.objects {
        if let Some(fault) = &object.fault {
            let finding = Finding::problem(Kind::Broken, fault.clone());
            findings.push(finding.of(&shown).in_object(&object.name));
        }
    }
    for who in seen.dead() {
        let what = format!(
            "process {} died while it was attached (participant {}), and nobody has cleared up after it",
            who.pid, who.number
        );
        findings.push(
            Finding::problem(Kind::Dead, what)
                .of(&shown)
                .mend(format!("ipc doctor --fix {}", show::quoted(&name.0)))
                .by(Mend::Recover(name.clone(), who.number)),
        );
    }
    if seen.alive().next().is_none() {
        let what = "nobody who lives is attached; it keeps what is in it for whoever comes";
        let finding = Finding::note(Kind::Stale, what).of(&shown);
        let name = show::quoted(&name.0);
        findings.push(finding.mend(format!("if nobody will come: ipc rm {name}")));
    }
    if seen.participants.len() >= seen.places as usize {
        let what = format!(
            "all {} places of the table of participants are taken",
            seen.places
        );
        let mend =
            "end a process that is attached, or create it anew with room for more participants";
        findings.push(Finding::problem(Kind::Full, what).of(&shown).mend(mend));
    }
    for object in &seen.objects {
        if let Some(ring) = object.ring.as_ref().filter(|ring| is_full(ring)) {
            findings.extend(full(seen, &name.0, &object.name, ring));
        }
    }
    for wait in &seen.waits {
        findings.extend(blocked(seen, &name.0, wait));
    }
    findings
}

fn is_full(ring: &Ring) -> bool {
    ring.capacity > 0 && ring.used >= ring.capacity
}

/// A full ring is a problem if nobody is there to take anything.
fn full(seen: &Seen, name: &str, object: &str, ring: &Ring) -> Option<Finding> {
    let takers = ["consumer", "reader"];
    let mut roles = ring.roles.iter().filter(|role| takers.contains(&role.role));
    let present = roles.any(|role| role.participant.is_some());
    if ring.closed || present || ring.roles.is_empty() && seen.alive().count() > 1 {
        return None;
    }
    let what = format!(
        "it is full ({} of {} {}), and nobody is there to take anything",
        show::count(ring.used),
        show::count(ring.capacity),
        ring.unit
    );
    let mend = format!(
        "start the consumer, or give up what is in it: ipc rm --force {}",
        show::quoted(name)
    );
    let finding = Finding::problem(Kind::Full, what).of(&show::plain(name));
    Some(finding.in_object(object).mend(mend))
}

/// A process that waits for one who is stopped or dead.
fn blocked(seen: &Seen, name: &str, wait: &Wait) -> Option<Finding> {
    let on: Vec<_> = wait
        .on
        .iter()
        .filter_map(|id| seen.participant(*id))
        .collect();
    let idle = on.iter().find(|who| who.life != Condition::Alive)?;
    let waiter = seen.who(wait.participant);
    let what = format!("{waiter} waits for {}", wait.text(seen));
    let mend = match idle.life {
        Condition::Stopped => format!("kill -CONT {}", idle.pid),
        _ => format!("ipc doctor --fix {}", show::quoted(name)),
    };
    let finding = Finding::problem(Kind::Stuck, what).of(&show::plain(name));
    Some(finding.in_object(&wait.object).mend(mend))
}

/// What did not move between two looks although somebody waits for it to.
fn standstill(name: &Name, first: &Seen, second: &Seen, watch: Duration) -> Vec<Finding> {
    let mut findings = Vec::new();
    for wait in &second.waits {
        let object = |seen: &Seen| seen.objects.iter().position(|x| x.name == wait.object);
        let (Some(before), Some(after)) = (object(first), object(second)) else {
            continue;
        };
        let (before, after) = (&first.objects[before], &second.objects[after]);
        let same_ring = match (&before.ring, &after.ring) {
            (Some(a), Some(b)) => is_full(b) && (a.pushed, a.popped) == (b.pushed, b.popped),
            _ => false,
        };
        let same_lock = match (&before.lock, &after.lock) {
            (Some(a), Some(b)) => a.holder.is_some() && a.holder == b.holder,
            _ => false,
        };
        let waited = first.waits.contains(wait);
        // One who is stopped or dead has been told of.
        let busy = |id: &u16| {
            second
                .participant(*id)
                .is_some_and(|who| who.life == Condition::Alive)
        };
        if waited && (same_ring && wait.what == "room" || same_lock) && wait.on.iter().any(busy) {
            let what = format!(
                "{} waits for {}, and nothing has moved for {watch:?}",
                second.who(wait.participant),
                wait.text(second)
            );
            let pids: Vec<String> = wait
                .on
                .iter()
                .filter_map(|id| second.participant(*id))
                .map(|who| who.pid.to_string())
                .collect();
            let mend = format!(
                "look what that process does (cat /proc/{}/stack, gdb -p)",
                pids.join(",")
            );
            let finding = Finding::note(Kind::Stuck, what).of(&name.0);
            findings.push(finding.in_object(&wait.object).mend(mend));
        }
    }
    findings
}

/// Who waits for whom, by process; only where nothing but the other one can end the wait.
fn depends(seen: &Seen, wait: &Wait, edges: &mut BTreeMap<u32, BTreeSet<u32>>) {
    let certain = ["room", "the lock", "the readers to leave", "a permit"];
    if !certain.contains(&wait.what) {
        return;
    }
    let on = wait.on.iter().filter_map(|id| seen.participant(*id));
    edges
        .entry(wait.pid)
        .or_default()
        .extend(on.map(|who| who.pid).filter(|pid| *pid != wait.pid));
}

/// Processes that wait for each other.
fn circles(edges: &BTreeMap<u32, BTreeSet<u32>>) -> Vec<Finding> {
    let mut told = BTreeSet::new();
    let mut findings = Vec::new();
    for start in edges.keys() {
        // Whoever can be reached from itself is in a circle.
        let mut reached = BTreeSet::new();
        let mut next: Vec<u32> = edges[start].iter().copied().collect();
        while let Some(pid) = next.pop() {
            if reached.insert(pid) {
                next.extend(edges.get(&pid).into_iter().flatten());
            }
        }
        if reached.contains(start) && !told.contains(start) {
            let back = |pid: &&u32| {
                let mut seen = BTreeSet::new();
                let mut next = vec![**pid];
                while let Some(pid) = next.pop() {
                    if seen.insert(pid) {
                        next.extend(edges.get(&pid).into_iter().flatten());
                    }
                }
                seen.contains(start)
            };
            let circle: BTreeSet<u32> = reached.iter().filter(back).copied().collect();
            let pids: Vec<String> = circle.iter().map(u32::to_string).collect();
            let what = format!("processes {} wait for each other", pids.join(", "));
            let mend = format!("end one of them: kill {}", pids[0]);
            findings.push(Finding::problem(Kind::Deadlock, what).mend(mend));
            told.extend(circle);
        }
    }
    findings
}

//! What `ipc doctor --fix` does. Nothing of it loses data, and all of it may be done by two at once.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ipc_core::participant::ParticipantId;
use ipc_core::segment::Segment;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::look::Name;

/// Something that can be done without asking.
#[derive(Debug)]
pub(super) enum Mend {
    /// Clear up after a dead participant, as any participant would.
    Recover(Name, u16),
    /// Close a directory of ours to others.
    Close(PathBuf),
    /// Remove what a killed creator left without a name.
    Sweep(PathBuf),
}

impl Mend {
    /// Does it. True if it is done.
    pub(super) fn run(&self) -> bool {
        match self {
            Self::Recover(name, number) => recover(name, *number),
            Self::Close(directory) => {
                std::fs::set_permissions(directory, Permissions::from_mode(0o700)).is_ok()
            }
            Self::Sweep(file) => is_left_over(file) && std::fs::remove_file(file).is_ok(),
        }
    }
}

fn recover(name: &Name, number: u16) -> bool {
    let (Ok(segment), Some(id)) = (
        Segment::open(name.place()),
        ParticipantId::new(number.into()),
    ) else {
        return false;
    };
    segment.learn(ipc_ring::KINDS);
    segment.learn(&[ipc_core::ids::KIND]);
    segment.recover(id)
}

/// Whether a file of a temporary name is one whose builder is gone: nobody holds the builder byte.
pub(super) fn is_left_over(path: &Path) -> bool {
    const BUILDER: i64 = 1 << 40;
    let Ok(file) = File::open(path) else {
        return false;
    };
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as _,
        l_whence: libc::SEEK_SET as _,
        l_start: BUILDER,
        l_len: 1,
        l_pid: 0,
    };
    let asked = fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock));
    asked.is_ok() && lock.l_type == libc::F_UNLCK as libc::c_short
}

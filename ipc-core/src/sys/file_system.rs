//! Which file system a file lies on, and which one of its kind.
//!
//! # Safety
//!
//! The one call passes a pointer to a local variable of the size that the request says.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, statx};
use rustix::io::Errno;

/// Opens a file a second time: a file description of its own, whose locks are nobody else's. Needs /proc.
pub(crate) fn reopen(file: impl AsFd, access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    rustix::fs::open(path, flags, Mode::empty())
}

/// What `FS_IOC_GETFSUUID` fills in: the length, then the bytes.
#[repr(C)]
struct Uuid {
    len: u8,
    bytes: [u8; 16],
}

/// `_IOR(0x15, 0, struct fsuuid2)`, of Linux 6.9.
const FS_IOC_GETFSUUID: libc::Ioctl = 0x8011_1500_u32 as libc::Ioctl;

/// The UUID of the file system; zeros where the kernel or the file system does not tell.
pub(crate) fn uuid(file: impl AsFd) -> [u8; 16] {
    let mut uuid = Uuid {
        len: 0,
        bytes: [0; 16],
    };
    // SAFETY: (1) the descriptor is open while borrowed; (2) the request writes 17 bytes, the size of `Uuid`, which is a
    // local variable.
    let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), FS_IOC_GETFSUUID, &raw mut uuid) };
    if result == 0 { uuid.bytes } else { [0; 16] }
}

/// Names the boot and the mount that a file is reached by: after a power cut or a remount it is another number. Zero
/// where the kernel (before 6.8) does not number mounts without using numbers again, or /proc does not tell the boot.
pub(crate) fn instance(file: impl AsFd) -> u64 {
    /// `STATX_MNT_ID_UNIQUE`.
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    let known = statx(file, "", AtFlags::EMPTY_PATH, UNIQUE);
    let boot = super::process::boot();
    match known {
        Ok(known) if known.stx_mask & UNIQUE.bits() != 0 && boot != 0 => {
            // Two numbers in one: mixed, so that neither hides in the other.
            (boot ^ known.stx_mnt_id.wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1)
        }
        _ => 0,
    }
}

/// The name of a kind of file system, by the magic number that `statfs` gives.
pub(crate) fn name(magic: u64) -> Option<&'static str> {
    Some(match magic {
        0x0102_1994 => "tmpfs",
        0xEF53 => "ext4",
        0x5846_5342 => "xfs",
        0x9584_58F6 => "hugetlbfs",
        0x8584_58F6 => "ramfs",
        0x9123_683E => "btrfs",
        0xF2F5_2010 => "f2fs",
        0x2FC1_2FC1 => "zfs",
        0xCA45_1A4E => "bcachefs",
        0x794C_7630 => "overlayfs",
        0x6573_5546 => "fuse",
        0x0102_1997 => "9p",
        0x6969 => "nfs",
        0xFF53_4D42 | 0xFE53_4D42 => "cifs",
        0x4D44 => "vfat",
        0x2011_BAB0 => "exfat",
        _ => return None,
    })
}

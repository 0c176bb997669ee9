//! Full disks and the limits of a process.
//!
//! # Safety
//!
//! The one raw call reads a word.
#![allow(unsafe_code)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ipc_core::{
    MapOptions,
    mapping::{MapError, overcommit, page_size},
};
use tempfile::TempDir;

use super::common::*;

/// A file system of its own, unmounted when dropped.
pub(crate) struct Mount {
    dir: TempDir,
    /// What lies beneath, if the mount is a disk in a file on another mount.
    disk: Option<Box<Mount>>,
}

impl Mount {
    /// A tmpfs of `bytes`, or `None` where this user may not mount.
    pub(crate) fn tmpfs(bytes: usize) -> Option<Mount> {
        let dir = scratch();
        let options = format!("size={bytes},mode=1777");
        let flags = nix::mount::MsFlags::empty();
        match nix::mount::mount(
            Some("tmpfs"),
            dir.path(),
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        ) {
            Ok(()) => Some(Mount { dir, disk: None }),
            Err(error) => {
                println!("skipped: this user may not mount a tmpfs ({error})");
                None
            }
        }
    }

    /// An ext4 of 64 MiB in a sparse file on a tmpfs of 24 MiB.
    pub(crate) fn ext4_on_a_full_disk() -> Option<Mount> {
        Mount::ext4(24 << 20, "^has_journal")
    }

    /// An ext4 with a journal, in a file in memory.
    pub(crate) fn ext4_with_a_journal() -> Option<Mount> {
        Mount::ext4(80 << 20, "has_journal")
    }

    fn ext4(below: usize, features: &str) -> Option<Mount> {
        let below = Mount::tmpfs(below)?;
        let image = below.path().join("image");
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-O", features])
            .arg(&image)
            .output();
        if !made.is_ok_and(|made| made.status.success()) {
            println!("skipped: there is no mkfs.ext4");
            return None;
        }
        let mount = Mount {
            dir: scratch(),
            disk: Some(Box::new(below)),
        };
        if !mount.attach() {
            println!("skipped: this machine mounts no loop devices");
            // Nothing to unmount but what lies beneath.
            let Mount { dir, disk } = &mut *std::mem::ManuallyDrop::new(mount);
            drop(disk.take());
            fs::remove_dir(dir.path()).unwrap();
            return None;
        }
        Some(mount)
    }

    /// Mounts the image beneath.
    fn attach(&self) -> bool {
        let disk = self.disk.as_ref().expect("a disk in a file");
        let mounted = Command::new("mount")
            .args(["-o", "loop"])
            .arg(disk.path().join("image"))
            .arg(self.path())
            .output();
        mounted.is_ok_and(|mounted| mounted.status.success())
    }

    /// Cuts the power: whatever is not on the disk, the log included, is lost.
    pub(crate) fn cut_the_power(&self) {
        use std::os::fd::AsRawFd;
        /// `EXT4_IOC_SHUTDOWN`, and the flag not to write the log.
        const SHUTDOWN: nix::libc::Ioctl = 0x8004_587D_u32 as nix::libc::Ioctl;
        let without_log = 2u32;
        let root = fs::File::open(self.path()).unwrap();
        // SAFETY: the call reads one word.
        let done = unsafe { nix::libc::ioctl(root.as_raw_fd(), SHUTDOWN, &without_log) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// Mounts it anew.
    pub(crate) fn remount(&self) {
        nix::mount::umount(self.path()).unwrap();
        assert!(self.attach(), "the disk does not mount again");
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn filler(&self) -> PathBuf {
        self.disk
            .as_ref()
            .expect("a disk in a file")
            .path()
            .join("filler")
    }

    /// Leaves the disk beneath no space.
    pub(crate) fn fill_the_disk(&self) {
        let space = vec![1; 1 << 20];
        let mut file = fs::File::create(self.filler()).unwrap();
        while std::io::Write::write_all(&mut file, &space).is_ok() {}
    }

    /// Gives the space back.
    pub(crate) fn empty_the_disk(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = nix::mount::umount(self.dir.path()) {
            eprintln!("{} stays mounted: {error}", self.dir.path().display());
        }
    }
}

#[test]
fn a_full_file_system_is_an_error_before_any_store() {
    // Catches a sparse file, whose stores would raise SIGBUS; and a message without what one needs to know.
    let Some(mount) = Mount::tmpfs(256 << 10) else {
        return;
    };
    let path = mount.path().join("file");
    for run in [probe as fn(&[&str]) -> Ended, probe_as_ordinary] {
        fs::write(&path, b"").unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let ended = run(&["fill", path.to_str().unwrap(), "131072"]).ok();
        for word in [
            path.to_str().unwrap(),
            "393216 bytes",
            "262144 are free",
            "filled",
            "no space for a hole",
        ] {
            assert!(ended.contains(word), "{word} is not in: {ended}");
        }
    }
}

#[test]
fn a_memory_file_that_does_not_fit_is_an_error() {
    // Catches a memfd that promises more than there is.
    let error = MapOptions::new()
        .len(1 << 50)
        .map_memfd("too big")
        .unwrap_err();
    assert!(
        error.to_string().contains("too big")
            && error.to_string().contains(&(1u64 << 50).to_string()),
        "{error}"
    );
}

#[test]
fn signals_do_not_keep_memory_from_being_reserved() {
    // Catches an interrupted call that is taken for a failure. Newer kernels interrupt it only to end the process; for the
    // older ones the loop is tested by itself, beside it.
    as_everybody(&["signal-storm", &(64 << 20).to_string()], |ended| {
        assert_eq!(ended.ok(), "reserved: true\n");
    });
}

#[test]
fn the_limit_on_file_sizes_is_an_error_and_no_signal() {
    // Catches SIGXFSZ, which would end the process.
    let (_dir, path) = file_of(b"");
    let limit = 64 << 10;
    as_everybody(
        &["size-limit", path.to_str().unwrap(), &limit.to_string()],
        |ended| {
            let out = ended.ok();
            assert!(
                out.contains("65537 bytes") && out.contains("RLIMIT_FSIZE is 65536"),
                "{out}"
            );
        },
    );
}

#[test]
fn the_limit_on_addresses_is_named() {
    // Catches a bare ENOMEM.
    let ended = probe(&["address-limit", &(1u64 << 30).to_string()]).ok();
    assert!(ended.contains("RLIMIT_AS is 1073741824 bytes"), "{ended}");
}

#[test]
fn overcommit_is_read_and_explained() {
    // Catches a refusal without its reason.
    let now = overcommit().unwrap();
    assert!(now.mode <= 2 && now.limit > 0 && now.committed > 0);
    assert!(
        now.to_string()
            .contains(&format!("vm.overcommit_memory is {}", now.mode))
    );
    match MapOptions::new().private().len(1 << 46).map_anonymous() {
        Err(MapError::Refused { why, .. }) => assert!(why.contains("overcommit"), "{why}"),
        Ok(mapping) => assert!(now.mode == 1 && mapping.len() == 1 << 46),
        Err(other) => panic!("{other}"),
    }
    // The whole of the address space is refused in every mode.
    let error = MapOptions::new()
        .private()
        .no_reserve()
        .len(1 << 62)
        .map_anonymous()
        .unwrap_err();
    assert!(matches!(error, MapError::Refused { .. }), "{error}");
}

#[test]
fn the_page_size_is_the_machines() {
    // Catches a constant in the place of the machine's word.
    let told = Command::new("getconf").arg("PAGESIZE").output().unwrap();
    assert_eq!(
        String::from_utf8(told.stdout).unwrap().trim(),
        page_size().to_string()
    );
}

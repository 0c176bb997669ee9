//! File systems of a test's own: full ones, failing ones, and disks whose power can be cut.
//!
//! # Safety
//!
//! The one raw call reads a word.
#![allow(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A directory that everybody may use.
fn scratch() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let everybody = fs::Permissions::from_mode(0o777);
    fs::set_permissions(directory.path(), everybody).expect("its mode");
    directory
}

/// A file system of its own, unmounted when dropped.
#[derive(Debug)]
pub struct Mount {
    dir: TempDir,
    /// What lies beneath, if the mount is a disk in a file on another mount.
    disk: Option<Box<Mount>>,
}

impl Mount {
    /// A tmpfs of `bytes`, or `None` where this user may not mount.
    pub fn tmpfs(bytes: usize) -> Option<Mount> {
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
    pub fn ext4_on_a_full_disk() -> Option<Mount> {
        // Blocks of a page, so that none shares a page of the file beneath with another.
        Mount::ext4(24 << 20, &["-b", "4096", "-O", "^has_journal"])
    }

    /// An ext4 with a journal, in a file in memory. A page is four blocks, any of which a power cut can lose.
    pub fn ext4_with_a_journal() -> Option<Mount> {
        Mount::ext4(80 << 20, &["-b", "1024", "-O", "has_journal"])
    }

    fn ext4(below: usize, arguments: &[&str]) -> Option<Mount> {
        let arguments = [&["-q", "-F"], arguments].concat();
        Mount::image(below, 64 << 20, "mkfs.ext4", &arguments)
    }

    /// An XFS of the smallest size that it takes, in a file in memory.
    pub fn xfs() -> Option<Mount> {
        Mount::image(400 << 20, 320 << 20, "mkfs.xfs", &["-q", "-f"])
    }

    /// A disk of `len` bytes in a sparse file on a tmpfs of `room` bytes.
    fn image(room: usize, len: u64, program: &str, arguments: &[&str]) -> Option<Mount> {
        let below = Mount::tmpfs(room)?;
        let image = below.path().join("image");
        fs::File::create(&image).unwrap().set_len(len).unwrap();
        let made = Command::new(program).args(arguments).arg(&image).output();
        if !made.is_ok_and(|made| made.status.success()) {
            println!("skipped: there is no {program}, or it fails");
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
    pub fn cut_the_power(&self) {
        use std::os::fd::AsRawFd;
        /// `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN`, and the flag not to write the log.
        const SHUTDOWN: nix::libc::Ioctl = 0x8004_587D_u32 as nix::libc::Ioctl;
        let without_log = 2u32;
        let root = fs::File::open(self.path()).unwrap();
        // SAFETY: the call reads one word.
        let done = unsafe { nix::libc::ioctl(root.as_raw_fd(), SHUTDOWN, &without_log) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// Mounts it anew.
    pub fn remount(&self) {
        self.detach().expect("the disk is not in use");
        assert!(self.attach(), "the disk does not mount again");
    }

    /// Unmounts it. A child that another test has forked just now may hold a descriptor of ours for a moment.
    fn detach(&self) -> nix::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match nix::mount::umount(self.path()) {
                Err(nix::errno::Errno::EBUSY) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                done => return done,
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
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
    pub fn fill_the_disk(&self) {
        let space = vec![1; 1 << 20];
        let mut file = fs::File::create(self.filler()).unwrap();
        while std::io::Write::write_all(&mut file, &space).is_ok() {}
    }

    /// Gives the space back.
    pub fn empty_the_disk(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            eprintln!("{} is still in use: {error}", self.path().display());
            // It goes when whoever uses it does, and the loop device with it.
            let _ = nix::mount::umount2(self.path(), nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

//! Creating a segment: complete first, then visible.
//!
//! The file is made without a name, gets all its blocks, its contents and its mode, and is then linked into place in one
//! step. Whoever is killed in between leaves nothing; whoever loses the race for the name opens the winner's.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};

use rustix::fs::{
    AtFlags, FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, StatxFlags, fallocate,
    fcntl_add_seals, fstatvfs, linkat, memfd_create, openat, statx,
};
use rustix::io::Errno;

use crate::MapOptions;
use crate::mapped::Mapped;
use crate::segment::directory::{self, Plan};
use crate::segment::header::Header;
use crate::segment::place::{Place, Spot};
use crate::segment::{ObjectSpec, Segment, SegmentError, open};
use crate::{memory::Memory, participant::MAX_PARTICIPANTS, sys};

/// What a new segment shall hold, and for whom.
#[derive(Clone, Debug)]
pub struct SegmentOptions {
    objects: Vec<(String, ObjectSpec)>,
    participants: u16,
    mode: u32,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl SegmentOptions {
    /// No objects yet, room for 64 attached processes, and mode 0600.
    pub fn new() -> Self {
        Self {
            objects: Vec::new(),
            participants: 64,
            mode: 0o600,
        }
    }

    /// Adds an object. Names are unique in a segment and have 1 to 63 bytes.
    pub fn object(mut self, name: &str, spec: ObjectSpec) -> Self {
        self.objects.push((name.to_owned(), spec));
        self
    }

    /// How many processes can be attached at the same time: 1 to 16,382.
    pub fn participants(mut self, count: u16) -> Self {
        self.participants = count;
        self
    }

    /// The mode of the file, whatever the umask.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Creates the segment.
    ///
    /// # Errors
    ///
    /// [`SegmentError::Exists`] if the name is taken, [`SegmentError::NoSpace`] if its blocks cannot be had, and
    /// whatever the system says. Nothing is left behind then.
    pub fn create(&self, place: impl Into<Place>) -> Result<Segment, SegmentError> {
        match place.into() {
            Place::Name(name) => self.create_file(&Spot::named(&name, true)?),
            Place::Path(path) => self.create_file(&Spot::at(&path)?),
            Place::Memfd(label) => self.create_memfd(&label),
            Place::Anonymous => self.create_anonymous(),
            place @ Place::Fd(_) => Err(SegmentError::BadName {
                name: place.to_string(),
                fault: "it exists already; open it",
            }),
        }
    }

    /// Opens the segment if it exists, creates it otherwise. Of several processes at once, one creates it and the others
    /// open what it made. What it holds is the creator's choice: check it as after [`Segment::open`].
    pub fn open_or_create(&self, place: impl Into<Place>) -> Result<Segment, SegmentError> {
        let spot = match place.into() {
            Place::Name(name) => Spot::named(&name, true)?,
            Place::Path(path) => Spot::at(&path)?,
            place => return self.create(place),
        };
        // A name can vanish between a failed create and the open; each turn means that somebody else got on.
        loop {
            match open::open_spot(&spot) {
                Err(SegmentError::NotFound { .. }) => {}
                other => return other,
            }
            match self.create_file(&spot) {
                Err(SegmentError::Exists { .. }) => {}
                other => return other,
            }
        }
    }

    fn create_file(&self, spot: &Spot) -> Result<Segment, SegmentError> {
        let plan = self.plan()?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = openat(&spot.directory, ".", flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| SegmentError::io("create a file beside", &spot.path, error))?;
        let file = File::from(file);
        let header = self.fill(&file, &plan, &spot.path.display().to_string())?;
        file.set_permissions(std::fs::Permissions::from_mode(self.mode))
            .and_then(|()| file.sync_all())
            .map_err(|error| SegmentError::io("prepare", &spot.path, error))?;
        let segment = self.attach(file.into(), &plan, header, Some(spot))?;
        let unnamed = format!("/proc/self/fd/{}", segment.as_fd().as_raw_fd());
        match linkat(
            rustix::fs::CWD,
            unnamed,
            &spot.directory,
            spot.name.as_str(),
            AtFlags::SYMLINK_FOLLOW,
        ) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return Err(SegmentError::Exists {
                    path: spot.path.clone(),
                });
            }
            Err(error) => return Err(SegmentError::io("name the new segment", &spot.path, error)),
        }
        Ok(segment)
    }

    fn create_memfd(&self, label: &str) -> Result<Segment, SegmentError> {
        let plan = self.plan()?;
        let name = CString::new(label).map_err(|_| SegmentError::BadName {
            name: label.to_owned(),
            fault: "it contains a zero byte",
        })?;
        let failed = |what: &str| {
            let what = format!("{what} the memory file {label:?}");
            move |error: Errno| SegmentError::Io {
                what,
                error: error.into(),
            }
        };
        let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map_err(failed("create"))?;
        let file = File::from(file);
        let header = self.fill(&file, &plan, &format!("the memory file {label:?}"))?;
        file.set_permissions(std::fs::Permissions::from_mode(self.mode))
            .map_err(|error| SegmentError::Io {
                what: format!("set the mode of the memory file {label:?}"),
                error,
            })?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(failed("seal"))?;
        self.attach(file.into(), &plan, header, None)
    }

    fn create_anonymous(&self) -> Result<Segment, SegmentError> {
        let plan = self.plan()?;
        let failed = |what: &str, error: std::io::Error| SegmentError::Io {
            what: what.into(),
            error,
        };
        // Anonymous memory has no descriptor; an empty memory file carries its lock bytes.
        let locks = memfd_create(c"ipc-locks", MemfdFlags::CLOEXEC)
            .map_err(|error| failed("create the file of lock bytes", error.into()))?;
        let mapping = MapOptions::new()
            .len(plan.total_len as usize)
            .map_anonymous()
            .map_err(|error| failed("map anonymous memory", error.into()))?;
        let header = self.header(&plan, 0, 0)?;
        let mapped = Mapped::new(mapping, open::reopen(&locks)?);
        let whole = crate::memory::Area::new(mapped.clone(), 0, mapped.len());
        let written = whole.and_then(|whole| {
            whole.write(0, &header.encode(&plan.bytes))?;
            whole.write(plan.directory_offset as usize, &plan.bytes)
        });
        written.map_err(|error| SegmentError::damaged(error.to_string()))?;
        let entries = self.entries(&plan)?;
        Segment::assemble(mapped, locks, None, header, entries)
    }

    fn plan(&self) -> Result<Plan, SegmentError> {
        if !(1..=MAX_PARTICIPANTS).contains(&self.participants) {
            let count = self.participants;
            return Err(SegmentError::Object(format!(
                "room for 1 to {MAX_PARTICIPANTS} participants, not {count}"
            )));
        }
        directory::plan(&self.objects, self.participants)
    }

    /// Gives the file all its blocks and its contents.
    fn fill(&self, file: &File, plan: &Plan, shown: &str) -> Result<Header, SegmentError> {
        let failed = |error: std::io::Error| SegmentError::Io {
            what: format!("write {shown}"),
            error,
        };
        loop {
            match fallocate(file, FallocateFlags::empty(), 0, plan.total_len) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
                    let free = fstatvfs(file).map_or(0, |fs| fs.f_bavail * fs.f_frsize);
                    return Err(SegmentError::NoSpace {
                        what: shown.to_owned(),
                        needed: plan.total_len,
                        free,
                    });
                }
                Err(error) => return Err(failed(error.into())),
            }
        }
        let known = statx(
            file,
            "",
            AtFlags::EMPTY_PATH,
            StatxFlags::INO | StatxFlags::BTIME,
        )
        .map_err(|error| failed(error.into()))?;
        let birth =
            known.stx_btime.tv_sec as u64 * 1_000_000_000 + u64::from(known.stx_btime.tv_nsec);
        let header = self.header(plan, known.stx_ino, birth)?;
        file.write_all_at(&header.encode(&plan.bytes), 0)
            .map_err(failed)?;
        file.write_all_at(&plan.bytes, plan.directory_offset)
            .map_err(failed)?;
        Ok(header)
    }

    fn header(&self, plan: &Plan, inode: u64, birth: u64) -> Result<Header, SegmentError> {
        let mut uuid = [0; 16];
        getrandom::fill(&mut uuid).map_err(|error| SegmentError::Io {
            what: "draw a random number".into(),
            error: std::io::Error::other(error.to_string()),
        })?;
        Ok(Header {
            compatible: 0,
            read_only_compatible: 0,
            incompatible: 0,
            total_len: plan.total_len,
            uuid,
            inode,
            birth,
            creator: sys::process::identity(),
            directory_offset: plan.directory_offset,
            schema_offset: plan.schema_offset,
            participants_offset: plan.participants_offset,
            objects: self.objects.len() as u32,
            schema_len: plan.schema_len,
            participants: self.participants.into(),
        })
    }

    fn entries(&self, plan: &Plan) -> Result<Vec<directory::Entry>, SegmentError> {
        let (directory, schema) = plan
            .bytes
            .split_at(self.objects.len() * directory::ENTRY_LEN);
        directory::decode(directory, schema, plan.total_len)
    }

    fn attach(
        &self,
        file: OwnedFd,
        plan: &Plan,
        header: Header,
        spot: Option<&Spot>,
    ) -> Result<Segment, SegmentError> {
        let mapping = MapOptions::new()
            .len(plan.total_len as usize)
            .map_file(&file)
            .map_err(|error| SegmentError::Io {
                what: "map the new segment".into(),
                error: error.into(),
            })?;
        let mapped = Mapped::new(mapping, open::reopen(&file)?);
        Segment::assemble(
            mapped,
            file,
            spot.map(|spot| spot.path.clone()),
            header,
            self.entries(plan)?,
        )
    }
}

//! Creating a segment: complete first, then visible.
//!
//! The file gets all its blocks, its contents and its mode while nobody can find it, and then its name in one step (see
//! `draft`). Whoever is killed in between leaves nothing that anybody would open; whoever loses the race for the name
//! opens the winner's.

use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, fchown};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

use crate::mapped::Mapped;
use crate::mapping::{MapError, MapOptions, Mapping, huge_page_size, page_size, reserve};
use crate::memory::Area;
use crate::participant::MAX_PARTICIPANTS;
use crate::segment::directory::{self, Plan};
use crate::segment::draft::Draft;
use crate::segment::header::{self, Access, Header, Origin};
use crate::segment::place::{Place, Spot, reopen};
use crate::segment::trust::{self, Trust};
use crate::segment::{ObjectSpec, Parts, Segment, SegmentError, SegmentView, open, remove};
use crate::sys;

/// How often [`SegmentOptions::open_or_create`] is beaten to a name that is gone again before it gives up.
const TURNS: u32 = 1000;

/// What a new segment shall hold, for whom, and whose segments to trust.
#[derive(Clone, Debug)]
#[must_use = "options do nothing before create, open or open_or_create is called"]
pub struct SegmentOptions {
    objects: Vec<(String, ObjectSpec)>,
    participants: u16,
    mode: Option<u32>,
    huge_pages: bool,
    pub(crate) trust: Trust,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl SegmentOptions {
    /// No objects yet, room for 64 attached processes, and for the user alone.
    pub fn new() -> Self {
        Self {
            objects: Vec::new(),
            participants: 64,
            mode: None,
            huge_pages: false,
            trust: Trust::default(),
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

    /// The mode of the file, whatever the umask. If not set 0600, and 0660 with a group.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// A group whose members may write: a new segment is given to it, and one of another owner is opened if it belongs to
    /// it. [`Place::group`] says it for a whole directory.
    pub fn group(mut self, group: u32) -> Self {
        self.trust.group = Some(group);
        self
    }

    /// A user whose segments are opened, beside one's own and those of root.
    pub fn owner(mut self, user: u32) -> Self {
        self.trust.owner = Some(user);
        self
    }

    /// Takes huge pages for a memory file ([`Place::Memfd`]), if the machine has enough of them set aside. If not, the segment
    /// has ordinary ones, and [`Segment::warnings`] says why.
    pub fn huge_pages(mut self) -> Self {
        self.huge_pages = true;
        self
    }

    /// Creates the segment.
    ///
    /// # Errors
    ///
    /// [`SegmentError::Exists`] if the name is taken, [`MapError::NoSpace`] if its blocks cannot be had, and whatever the
    /// system says. Nothing is left behind then.
    pub fn create(&self, place: impl Into<Place>) -> Result<Segment, SegmentError> {
        match Spot::find(place.into(), self.trust, true)? {
            Ok(spot) => self.create_file(&spot, |draft| draft.publish()),
            Err(place) => self.create_nameless(place),
        }
    }

    /// Opens a segment that exists, with the owner and the group that these options trust. The rest of them does not matter.
    ///
    /// # Errors
    ///
    /// As [`Segment::open`].
    pub fn open(&self, place: impl Into<Place>) -> Result<Segment, SegmentError> {
        open::open(place.into(), self.trust)
    }

    /// Opens a segment that exists for reading only, with the owner and the group that these options trust.
    ///
    /// # Errors
    ///
    /// As [`Segment::open_read_only`].
    pub fn open_read_only(&self, place: impl Into<Place>) -> Result<SegmentView, SegmentError> {
        open::open_read_only(place.into(), self.trust)
    }

    /// Opens the segment if it exists, creates it otherwise. Of several processes at once, one creates it and the others
    /// open what it made. What it holds is the creator's choice: check it as after [`Segment::open`].
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create) and [`open`](Self::open).
    pub fn open_or_create(&self, place: impl Into<Place>) -> Result<Segment, SegmentError> {
        let spot = match Spot::find(place.into(), self.trust, true)? {
            Ok(spot) => spot,
            Err(place) => return self.create_nameless(place),
        };
        // A name can vanish between a failed create and the open. Each turn means that somebody else got on, and nobody who
        // means well does so for long.
        for _ in 0..TURNS {
            match open::open_spot(&spot) {
                Err(SegmentError::NotFound { .. }) => {}
                other => return other,
            }
            match self.create_file(&spot, |draft| draft.publish()) {
                Err(SegmentError::Exists { .. }) => {}
                other => return other,
            }
        }
        Err(SegmentError::Exists { path: spot.path })
    }

    /// Creates the segment and gives it the name, whatever had the name before. Whoever has the old segment open goes on
    /// using it, and is told by [`Segment::check`].
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create), except that the name may be taken; what has it must be a segment of ours.
    pub fn replace(&self, place: impl Into<Place>) -> Result<Segment, SegmentError> {
        let spot = match Spot::find(place.into(), self.trust, true)? {
            Ok(spot) => spot,
            Err(place) => return self.create_nameless(place),
        };
        let old = remove::to_be_removed(&spot)?;
        let new = self.create_file(&spot, |draft| draft.replace())?;
        old.into_iter().for_each(|old| remove::retire(&old));
        Ok(new)
    }

    /// Builds the file and hands it to `name`.
    pub(crate) fn create_file(
        &self,
        spot: &Spot,
        name: fn(Draft<'_>) -> Result<(), SegmentError>,
    ) -> Result<Segment, SegmentError> {
        let trust = spot.trust;
        let mode = self.checked_mode(trust)?;
        let plan = self.plan(page_size())?;
        let draft = Draft::new(spot)?;
        let failed = |error| SegmentError::io("prepare", &spot.path, error);
        set_aside(
            &draft.file,
            plan.total_len,
            &spot.path.display().to_string(),
        )?;
        let segment = self.build(
            draft.file.try_clone().map_err(failed)?,
            &plan,
            Some(spot),
            Vec::new(),
        )?;
        own(&draft.file, trust.group, mode)
            .and_then(|()| draft.file.sync_all())
            .map_err(failed)?;
        name(draft)?;
        Ok(segment)
    }

    fn create_nameless(&self, place: Place) -> Result<Segment, SegmentError> {
        match place {
            Place::Memfd(label) if self.huge_pages => self.create_huge(&label),
            Place::Memfd(label) => {
                self.create_memfd(&label, page_size(), MemfdFlags::empty(), Vec::new())
            }
            Place::Anonymous => self.create_anonymous(),
            place => Err(SegmentError::BadName {
                name: place.to_string(),
                fault: "it exists already; open it",
            }),
        }
    }

    fn create_huge(&self, label: &str) -> Result<Segment, SegmentError> {
        let reason = match huge_page_size() {
            None => "this machine has none".to_owned(),
            Some(size) => match self.create_memfd(label, size, MemfdFlags::HUGETLB, Vec::new()) {
                Ok(segment) => return Ok(segment),
                Err(error) => error.to_string(),
            },
        };
        let warning = format!("huge pages were asked for and cannot be had: {reason}");
        self.create_memfd(label, page_size(), MemfdFlags::empty(), vec![warning])
    }

    fn create_memfd(
        &self,
        label: &str,
        page: usize,
        flags: MemfdFlags,
        warnings: Vec<String>,
    ) -> Result<Segment, SegmentError> {
        let plan = self.plan(page)?;
        let name = CString::new(label).map_err(|_| SegmentError::BadName {
            name: label.to_owned(),
            fault: "it contains a zero byte",
        })?;
        let shown = format!("the memory file {label:?}");
        let failed = |what: &str, error| SegmentError::Io {
            what: format!("{what} {shown}"),
            error,
        };
        let file = memfd_create(
            name,
            flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )
        .map_err(|error| failed("create", error.into()))?;
        let file = File::from(file);
        set_aside(&file, plan.total_len, &shown)?;
        own(&file, None, self.mode.unwrap_or(0o600))
            .map_err(|error| failed("set the mode of", error))?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(|error| failed("seal", error.into()))?;
        self.build(file, &plan, None, warnings)
    }

    fn create_anonymous(&self) -> Result<Segment, SegmentError> {
        let plan = self.plan(page_size())?;
        // Anonymous memory has no descriptor; an empty memory file carries its lock bytes.
        let locks =
            memfd_create(c"ipc-locks", MemfdFlags::CLOEXEC).map_err(|error| SegmentError::Io {
                what: "create the file of lock bytes".into(),
                error: error.into(),
            })?;
        let mapping = MapOptions::new()
            .guard_pages()
            .len(plan.total_len as usize)
            .map_anonymous()?;
        self.fill(
            mapping,
            locks.into(),
            &plan,
            None,
            Origin::default(),
            Vec::new(),
        )
    }

    /// Maps the file and fills it.
    fn build(
        &self,
        file: File,
        plan: &Plan,
        spot: Option<&Spot>,
        mut warnings: Vec<String>,
    ) -> Result<Segment, SegmentError> {
        let mapping = MapOptions::new()
            .guard_pages()
            .len(plan.total_len as usize)
            .map_file(&file)?;
        let origin = trust::origin(&file);
        if let Some(spot) = spot {
            warnings.extend(trust::file_system_warning(&file, &spot.path));
        }
        self.fill(mapping, file, plan, spot, origin, warnings)
    }

    fn fill(
        &self,
        mapping: Mapping,
        file: File,
        plan: &Plan,
        spot: Option<&Spot>,
        origin: Origin,
        warnings: Vec<String>,
    ) -> Result<Segment, SegmentError> {
        let header = self.header(plan, origin)?;
        let failed = |error| SegmentError::Io {
            what: "open the new segment a second time".into(),
            error,
        };
        let mapped = Mapped::new(
            mapping,
            reopen(&file, Access::ReadWrite).map_err(failed)?.into(),
        );
        let written = Area::new(mapped.clone(), 0, plan.total_len as usize).and_then(|whole| {
            whole.write(0, &header.encode())?;
            whole.write(plan.directory_offset as usize, &plan.contents)
        });
        written.map_err(|error| SegmentError::damaged(error.to_string()))?;
        let (directory, schema) = plan
            .contents
            .split_at(self.objects.len() * directory::ENTRY_LEN);
        let entries = directory::decode(directory, schema, &header)?;
        let path = spot.map(|spot| spot.path.clone());
        Segment::assemble(
            mapped,
            Parts {
                file: file.into(),
                path,
                header,
                entries,
                warnings,
            },
        )
    }

    fn plan(&self, page: usize) -> Result<Plan, SegmentError> {
        if !(1..=MAX_PARTICIPANTS).contains(&self.participants) {
            let count = self.participants;
            return Err(SegmentError::Object(format!(
                "room for 1 to {MAX_PARTICIPANTS} participants, not {count}"
            )));
        }
        directory::plan(&self.objects, self.participants, page)
    }

    fn header(&self, plan: &Plan, origin: Origin) -> Result<Header, SegmentError> {
        Ok(Header {
            minor: header::FORMAT_MINOR,
            compatible: 0,
            read_only_compatible: 0,
            incompatible: 0,
            total_len: plan.total_len,
            uuid: random()?,
            origin,
            adoptions: 0,
            creator: sys::process::identity(),
            directory_offset: plan.directory_offset,
            schema_offset: plan.schema_offset,
            participants_offset: plan.participants_offset,
            objects: self.objects.len() as u32,
            schema_len: plan.schema_len,
            participants: self.participants.into(),
            contents_crc: header::contents_crc(&plan.contents),
        })
    }

    /// The mode, if those who open the segment later will not refuse it.
    fn checked_mode(&self, trust: Trust) -> Result<u32, SegmentError> {
        let mode = self
            .mode
            .unwrap_or(if trust.group.is_some() { 0o660 } else { 0o600 });
        let fault = match mode {
            _ if mode & !0o777 != 0 => "a mode has nine bits, such as 0o600",
            _ if mode & 0o600 != 0o600 => "the owner of a segment reads and writes it",
            _ if mode & 0o002 != 0 => {
                "a segment that anybody may write to is refused by all who open it"
            }
            _ if mode & 0o020 != 0 && trust.group.is_none() => {
                "the group may write: say which by SegmentOptions::group, or use Place::group"
            }
            _ => return Ok(mode),
        };
        Err(SegmentError::BadMode { mode, fault })
    }
}

/// Gives the file all its blocks.
pub(crate) fn set_aside(file: &File, len: u64, shown: &str) -> Result<(), SegmentError> {
    match reserve(file, len, shown) {
        // This file system cannot set blocks aside, but gives them to what is written.
        Err(MapError::Os { source, .. })
            if source.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) =>
        {
            let zeros = [0; 1 << 16];
            let mut at = 0;
            while at < len {
                let piece = zeros.len().min((len - at) as usize);
                file.write_all_at(&zeros[..piece], at)
                    .map_err(|error| SegmentError::Io {
                        what: format!("write {shown}"),
                        error,
                    })?;
                at += piece as u64;
            }
            Ok(())
        }
        other => Ok(other?),
    }
}

/// Gives the file to the group, and its mode, whatever the umask.
pub(crate) fn own(file: &File, group: Option<u32>, mode: u32) -> std::io::Result<()> {
    if let Some(group) = group {
        if file.metadata()?.gid() != group {
            fchown(file, None, Some(group))?;
        }
    }
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], SegmentError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| SegmentError::Io {
        what: "draw a random number".into(),
        error: std::io::Error::other(error.to_string()),
    })?;
    Ok(bytes)
}

//! Looking at a segment without taking part: what `ls`, `inspect`, `top` and `doctor` know.
//!
//! The segment is mapped for reading only, no row of its table is taken, no byte is locked, no word is stored. What is
//! told was so when it was looked at.

pub(crate) mod counted;
pub(crate) mod follow;
mod kinds;
pub(crate) mod process;
pub(crate) mod rings;
pub(crate) mod values;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use ipc_core::participant::{Life, ParticipantId};
use ipc_core::segment::{Entry, FORMAT_VERSION, Place, Segment, SegmentError, SegmentView};
use serde::{Serialize, Serializer};

use counted::Counted;
pub(crate) use kinds::Lock;
pub(crate) use rings::{Holder, Ring};

use crate::show;
use process::FileId;

/// A segment as the user names it: a name in the default directory, or a path, which has a slash.
#[derive(Clone, Debug)]
pub(crate) struct Name(pub(crate) String);

impl Name {
    pub(crate) fn place(&self) -> Place {
        match self.0.contains('/') {
            true => Place::Path(PathBuf::from(&self.0)),
            false => Place::Name(self.0.clone()),
        }
    }

    /// The same, for a user who is told what could not be opened.
    pub(crate) fn view(&self) -> anyhow::Result<SegmentView> {
        self.open()
            .with_context(|| format!("cannot open {:?}", self.0))
    }

    /// Opens it for reading only.
    pub(crate) fn open(&self) -> Result<SegmentView, SegmentError> {
        Segment::open_read_only(self.place())
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

/// How a segment is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// A living process is attached.
    InUse,
    /// Nobody is attached.
    Unused,
    /// Only dead ones are.
    Stale,
    /// It cannot be opened.
    Broken,
}

impl State {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::InUse => "in use",
            Self::Unused => "unused",
            Self::Stale => "stale",
            Self::Broken => "broken",
        }
    }

    pub(crate) fn look(self) -> show::Look {
        match self {
            Self::InUse => show::Look::Good,
            Self::Unused => show::Look::Plain,
            Self::Stale => show::Look::Warning,
            Self::Broken => show::Look::Bad,
        }
    }
}

/// What was seen of a segment.
#[derive(Debug, Serialize)]
pub(crate) struct Seen {
    #[serde(serialize_with = "as_text")]
    pub(crate) path: Option<PathBuf>,
    pub(crate) bytes: u64,
    /// Permission bits of the file, in octal.
    pub(crate) mode: Option<String>,
    pub(crate) owner: Option<u32>,
    pub(crate) format: String,
    pub(crate) uuid: String,
    pub(crate) adoptions: u32,
    pub(crate) creator: Creator,
    pub(crate) state: State,
    /// Rows of the table of participants.
    pub(crate) places: u32,
    pub(crate) participants: Vec<Participant>,
    pub(crate) objects: Vec<Object>,
    pub(crate) waits: Vec<Wait>,
    /// What is wrong with the segment as a whole.
    pub(crate) fault: Option<String>,
    pub(crate) warnings: Vec<String>,
}

/// Who made a segment.
#[derive(Debug, Serialize)]
pub(crate) struct Creator {
    pub(crate) pid: u32,
    /// Since the machine was started last.
    pub(crate) this_boot: bool,
}

/// An attached process.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Participant {
    pub(crate) number: u16,
    pub(crate) pid: u32,
    pub(crate) life: Condition,
    /// The name of its program.
    pub(crate) command: Option<String>,
    /// Its process id means something here.
    #[serde(skip)]
    pub(crate) is_here: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Condition {
    Alive,
    /// Alive, and stopped by a signal or a debugger.
    Stopped,
    /// Died, and nobody has cleared up after it.
    Dead,
}

impl Condition {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
        }
    }

    pub(crate) fn look(self) -> show::Look {
        match self {
            Self::Alive => show::Look::Good,
            Self::Stopped => show::Look::Warning,
            Self::Dead => show::Look::Bad,
        }
    }
}

/// An object of the segment.
#[derive(Debug, Serialize)]
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) version: u32,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) fingerprint: String,
    /// The layout of its elements.
    pub(crate) schema: String,
    pub(crate) ring: Option<Ring>,
    /// What was counted in the ring.
    pub(crate) counted: Option<Counted>,
    pub(crate) lock: Option<Lock>,
    #[serde(serialize_with = "as_map")]
    pub(crate) facts: Vec<(&'static str, String)>,
    pub(crate) fault: Option<String>,
}

fn as_map<S: Serializer>(
    facts: &[(&'static str, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(facts.iter().map(|(name, value)| (name, value)))
}

/// A path is any bytes, and JSON is text.
fn as_text<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_deref()
        .map(Path::to_string_lossy)
        .serialize(serializer)
}

/// A process that sleeps on a word of the segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Wait {
    pub(crate) participant: u16,
    pub(crate) pid: u32,
    pub(crate) object: String,
    /// What it waits for.
    pub(crate) what: &'static str,
    /// On which participants that depends; empty if there is nobody.
    pub(crate) on: Vec<u16>,
    /// What those are called.
    pub(crate) called: &'static str,
}

impl Seen {
    /// Looks at an open segment.
    pub(crate) fn of(view: &SegmentView) -> Self {
        let header = view.header();
        let metadata = view.path().and_then(|path| std::fs::metadata(path).ok());
        let participants = participants(view);
        let mut points = Vec::new();
        let mut objects = Vec::new();
        for entry in view.entries() {
            let (object, found) = object(view, entry);
            let at = |point: kinds::Point| (entry.offset + point.at as u64, objects.len(), point);
            points.extend(found.into_iter().map(at));
            objects.push(object);
        }
        let waits = waits(view, &participants, &objects, &points);
        Self {
            path: view.path().map(Path::to_owned),
            bytes: header.total_len,
            mode: metadata
                .as_ref()
                .map(|file| format!("{:04o}", file.mode() & 0o7777)),
            owner: metadata.as_ref().map(MetadataExt::uid),
            format: format!("{FORMAT_VERSION}.{}", header.minor),
            uuid: hex(&header.uuid),
            adoptions: header.adoptions,
            creator: Creator {
                pid: header.creator.pid,
                this_boot: header.creator.boot == boot(),
            },
            state: state(&participants),
            places: header.participants,
            participants,
            objects,
            waits,
            fault: view.check().err().map(|error| error.to_string()),
            warnings: view
                .warnings()
                .iter()
                .map(|text| show::plain(text))
                .collect(),
        }
    }

    pub(crate) fn participant(&self, number: u16) -> Option<&Participant> {
        self.participants.iter().find(|who| who.number == number)
    }

    /// Participants that live.
    pub(crate) fn alive(&self) -> impl Iterator<Item = &Participant> {
        self.participants
            .iter()
            .filter(|who| who.life != Condition::Dead)
    }

    /// Participants that died, and that nobody has cleared up after.
    pub(crate) fn dead(&self) -> impl Iterator<Item = &Participant> {
        self.participants
            .iter()
            .filter(|who| who.life == Condition::Dead)
    }

    /// Processes that sleep.
    pub(crate) fn waiting(&self) -> usize {
        let mut numbers: Vec<u16> = self.waits.iter().map(|wait| wait.participant).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.len()
    }

    /// How full the fullest ring is, from 0 to 1. `None` if there is no ring.
    pub(crate) fn used(&self) -> Option<f64> {
        let rings = self
            .objects
            .iter()
            .filter_map(|object| object.ring.as_ref());
        rings
            .map(|ring| show::share(ring.used, ring.capacity))
            .reduce(f64::max)
    }

    /// A participant in words: `process 7 (feed)`.
    pub(crate) fn who(&self, number: u16) -> String {
        match self.participant(number) {
            Some(who) => who.text(),
            None => format!("participant {number}, which is not attached"),
        }
    }
}

impl Participant {
    /// In words: `process 7 (feed)`.
    pub(crate) fn text(&self) -> String {
        let life = match self.life {
            Condition::Alive => "",
            Condition::Stopped => ", which is stopped",
            Condition::Dead => ", which is dead",
        };
        match &self.command {
            Some(command) => format!("process {} ({command}){life}", self.pid),
            None => format!("process {}{life}", self.pid),
        }
    }

    fn can_wait(&self) -> bool {
        self.life != Condition::Dead && self.is_here
    }
}

impl Wait {
    fn new(who: &Participant, object: &Object, point: &kinds::Point) -> Self {
        Self {
            participant: who.number,
            pid: who.pid,
            object: object.name.clone(),
            what: point.what,
            on: point.blockers.iter().map(|id| id.get()).collect(),
            called: point.called,
        }
    }

    /// In words, without who waits.
    pub(crate) fn text(&self, seen: &Seen) -> String {
        let on: Vec<String> = self.on.iter().map(|number| seen.who(*number)).collect();
        let on = match &on[..] {
            [] => format!("and no {} is there that one could name", self.called),
            on => format!("which is up to {}", on.join(", ")),
        };
        format!("{} in {}, {on}", self.what, self.object)
    }
}

/// How often it is looked who sleeps: a sleeper looks around every 40 to 75 ms, and is awake for a moment then. Nothing tells one who
/// only looks when that moment is over.
const LOOKS: u32 = 3;

fn waits(
    view: &SegmentView,
    participants: &[Participant],
    objects: &[Object],
    points: &[(u64, usize, kinds::Point)],
) -> Vec<Wait> {
    let Some(file) = view.path().and_then(FileId::of) else {
        return Vec::new();
    };
    let rings = || objects.iter().filter_map(|object| object.ring.as_ref());
    let announced = rings().any(|ring| ring.producers_sleep || ring.consumers_sleep);
    let mut waits = Vec::new();
    for look in 0..LOOKS {
        if look > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        for who in participants.iter().filter(|who| who.can_wait()) {
            let words = process::sleeps_on(who.pid, file).unwrap_or_default();
            let slept_on = points.iter().filter(|(at, ..)| words.contains(at));
            waits.extend(slept_on.map(|(_, index, point)| Wait::new(who, &objects[*index], point)));
        }
        if !waits.is_empty() || !announced {
            break;
        }
    }
    waits
}

fn participants(view: &SegmentView) -> Vec<Participant> {
    let namespace = process::pid_namespace();
    let row = |id: ParticipantId| {
        let (who, dead) = match view.life(id) {
            Life::Alive(who) => (who, false),
            Life::Dead(who) => (who, true),
            _ => return None,
        };
        let is_here = who.pid_namespace == namespace;
        let there = is_here && !dead;
        Some(Participant {
            number: id.get(),
            pid: who.pid,
            life: match dead {
                true => Condition::Dead,
                false if there && process::is_stopped(who.pid) => Condition::Stopped,
                false => Condition::Alive,
            },
            command: there.then(|| process::command(who.pid)).flatten(),
            is_here,
        })
    };
    view.participants().filter_map(row).collect()
}

fn state(participants: &[Participant]) -> State {
    let dead = |who: &&Participant| who.life == Condition::Dead;
    match (participants.len(), participants.iter().filter(dead).count()) {
        (0, _) => State::Unused,
        (all, dead) if all == dead => State::Stale,
        _ => State::InUse,
    }
}

fn object(view: &SegmentView, entry: &Entry) -> (Object, Vec<kinds::Point>) {
    let (seen, counted) = match view.object(&entry.name) {
        Ok(object) => (kinds::look(&object), Counted::of(&object)),
        Err(error) => (
            kinds::Seen {
                fault: Some(error.to_string()),
                ..kinds::Seen::default()
            },
            None,
        ),
    };
    let object = Object {
        name: show::plain(&entry.name),
        kind: show::tag(entry.kind),
        version: entry.version,
        offset: entry.offset,
        bytes: entry.len,
        fingerprint: format!("{:016x}", entry.fingerprint),
        schema: values::lines(&entry.schema).join("\n"),
        ring: seen.ring,
        counted,
        lock: seen.lock,
        facts: seen.facts,
        fault: seen.fault,
    };
    (object, seen.points)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first eight bytes of the kernel's boot id, as a header keeps them.
fn boot() -> u64 {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = id
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(16)
        .collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}

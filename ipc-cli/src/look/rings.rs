//! Where the rings of a segment stand, read from the words that `docs/layout.md` draws.

use std::sync::atomic::Ordering::Acquire;

use ipc_core::ReadOnly;
use ipc_core::memory::{Area, OutOfArea};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::{Entry, ObjectView};
use ipc_ring::journal::protocol::Log;
use ipc_ring::mpmc::geometry::{Phase, State};
use ipc_ring::role;
use serde::Serialize;

use super::kinds::{Point, Seen, sleeps, word32, word64};

/// The most slots that are searched for those in somebody's hands.
const SEARCHED: u64 = 1 << 16;

/// Where a ring stands.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Ring {
    /// What capacity, used and positions count: messages or bytes.
    pub(crate) unit: &'static str,
    pub(crate) capacity: u64,
    /// Published and not taken; of several lanes, in all of them.
    pub(crate) used: u64,
    /// Messages or records ever pushed, and ever taken by the slowest.
    pub(crate) pushed: u64,
    pub(crate) popped: u64,
    pub(crate) closed: bool,
    pub(crate) producers_sleep: bool,
    pub(crate) consumers_sleep: bool,
    pub(crate) roles: Vec<Role>,
    /// Slots that are in somebody's hands.
    pub(crate) claims: Vec<Claim>,
}

/// One end of a ring, and who has it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Role {
    pub(crate) role: &'static str,
    pub(crate) lane: Option<usize>,
    pub(crate) holder: Holder,
    pub(crate) participant: Option<u16>,
    /// How often it was claimed.
    pub(crate) claims: u64,
    pub(crate) position: u64,
    /// How far behind the producer.
    pub(crate) behind: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Holder {
    Never,
    Present,
    Left,
    Died,
}

/// A slot of an `mpmc` ring in somebody's hands.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Claim {
    pub(crate) slot: u64,
    pub(crate) phase: &'static str,
    pub(crate) participant: u16,
}

fn role(
    area: &Area<ReadOnly>,
    at: usize,
    name: &'static str,
    (position, behind): (u64, u64),
) -> Result<Role, OutOfArea> {
    let word = role::Role::new(area, at)?;
    let (holder, participant) = match word.holder() {
        role::Holder::Never => (Holder::Never, None),
        role::Holder::Present(id) => (Holder::Present, Some(id.get())),
        role::Holder::Left => (Holder::Left, None),
        role::Holder::Died => (Holder::Died, None),
    };
    Ok(Role {
        role: name,
        lane: None,
        holder,
        participant,
        claims: word.claims(),
        position,
        behind,
    })
}

fn holders<'r>(roles: impl IntoIterator<Item = &'r Role>) -> Vec<ParticipantId> {
    let ids = roles.into_iter().filter_map(|role| role.participant);
    ids.filter_map(|id| ParticipantId::new(id.into())).collect()
}

/// One producer, one consumer, messages.
pub(super) fn spsc(area: &Area<ReadOnly>, entry: &Entry) -> Result<Seen, OutOfArea> {
    let (head, tail) = (word64(area, 128)?, word64(area, 0)?);
    let used = tail.wrapping_sub(head).min(entry.parameters[0]);
    let producer = role(area, 512, "producer", (tail, 0))?;
    let consumer = role(area, 520, "consumer", (head, used))?;
    let points = vec![
        Point::new(256, "a message", holders([&producer]), "producer"),
        Point::new(384, "room", holders([&consumer]), "consumer"),
    ];
    let ring = Ring {
        unit: "messages",
        capacity: entry.parameters[0],
        used,
        pushed: tail,
        popped: head,
        closed: word32(area, 260)? != 0,
        consumers_sleep: sleeps(word32(area, 256)?),
        producers_sleep: sleeps(word32(area, 384)?),
        roles: vec![producer, consumer],
        claims: Vec::new(),
    };
    Ok(Seen::ring(ring, points))
}

/// Any number of lanes of records, one consumer: `bytes`, `lanes` and `channel`.
pub(super) fn lanes(area: &Area<ReadOnly>, entry: &Entry) -> Result<Seen, OutOfArea> {
    const ARENA: usize = 512;
    let [capacity, lanes] = entry.parameters;
    let misfit = OutOfArea {
        at: 256,
        len: usize::MAX,
        align: 128,
        area: area.len(),
    };
    let size = usize::try_from(capacity)
        .ok()
        .and_then(|capacity| capacity.checked_add(ARENA)?.checked_next_multiple_of(128))
        .ok_or(misfit)?;
    // What does not lie in the object is not walked over.
    let lanes = usize::try_from(lanes).ok().filter(|lanes| {
        let end = size
            .checked_mul(*lanes)
            .and_then(|len| len.checked_add(256));
        end.is_some_and(|end| end <= area.len())
    });
    let lanes = lanes.ok_or(misfit)?;
    let consumer = role(area, 128, "consumer", (0, 0))?;
    let mut ring = Ring {
        unit: "bytes",
        capacity: capacity.saturating_mul(lanes as u64),
        closed: word32(area, 4)? != 0,
        consumers_sleep: sleeps(word32(area, 0)?),
        ..Ring::default()
    };
    let mut points = Vec::new();
    let mut producers = Vec::new();
    for lane in 0..lanes {
        let at = 256 + lane * size;
        let (head, tail) = (word64(area, at + 128)?, word64(area, at)?);
        let used = tail.wrapping_sub(head).min(capacity);
        let mut producer = role(area, at + 384, "producer", (tail, used))?;
        producer.lane = Some(lane);
        ring.used = ring.used.saturating_add(used);
        ring.pushed = ring.pushed.wrapping_add(word64(area, at + 8)?);
        ring.popped = ring.popped.wrapping_add(word64(area, at + 136)?);
        ring.producers_sleep |= sleeps(word32(area, at + 256)?);
        points.push(Point::new(
            at + 256,
            "room",
            holders([&consumer]),
            "consumer",
        ));
        // Lanes that nobody ever had would only fill the screen.
        if lanes == 1 || producer.claims > 0 || used > 0 {
            producers.push(producer);
        }
    }
    points.push(Point::new(0, "a record", holders(&producers), "producer"));
    ring.roles = producers;
    let behind = ring.used;
    ring.roles.push(Role { behind, ..consumer });
    Ok(Seen::ring(ring, points))
}

/// Any number of producers and consumers, messages.
pub(super) fn mpmc(area: &Area<ReadOnly>, entry: &Entry) -> Result<Seen, OutOfArea> {
    let [capacity, stride] = entry.parameters;
    let (slots, stride) = (capacity as usize, stride as usize);
    let words = area.slots(512, stride, slots)?.words(0)?;
    let (head, tail) = (word64(area, 128)?, word64(area, 0)?);
    let used = tail.wrapping_sub(head).min(capacity);
    let state = |position| State(words.load(position, Acquire));
    let mut claims = Vec::new();
    for slot in 0..capacity.min(SEARCHED) {
        // From the head on, where they are likely.
        let position = head.wrapping_add(slot);
        let state = state(position);
        if let (phase @ (Phase::Writing | Phase::Reading), Some(owner)) =
            (state.phase(), state.owner())
        {
            claims.push(Claim {
                slot: position & (capacity - 1),
                phase: if phase == Phase::Writing {
                    "being written"
                } else {
                    "being read"
                },
                participant: owner.get(),
            });
        }
    }
    // Who stands in the way of the next message, and of the next free slot.
    let owner = |position| state(position).owner().into_iter().collect();
    let points = vec![
        Point::new(256, "a message", owner(head), "producer"),
        Point::new(384, "room", owner(tail), "consumer"),
    ];
    let ring = Ring {
        unit: "messages",
        capacity,
        used,
        pushed: tail,
        popped: head,
        closed: word32(area, 260)? != 0,
        consumers_sleep: sleeps(word32(area, 256)?),
        producers_sleep: sleeps(word32(area, 384)?),
        roles: Vec::new(),
        claims,
    };
    Ok(Seen::ring(ring, points))
}

/// One producer, any number of readers, messages.
pub(super) fn broadcast(area: &Area<ReadOnly>, entry: &Entry) -> Result<Seen, OutOfArea> {
    const ROWS: usize = 512;
    let capacity = entry.parameters[0];
    let tail = word64(area, 0)?;
    let producer = role(area, 384, "producer", (tail, 0))?;
    let mut readers = Vec::new();
    for row in 0..ipc_ring::broadcast::LOSSLESS {
        let at = ROWS + 128 * row;
        let (active, head) = (word64(area, at + 8)? != 0, word64(area, at + 16)?);
        let behind = tail.wrapping_sub(head).min(capacity);
        let mut reader = role(area, at, "reader", (head, behind))?;
        reader.lane = Some(row);
        if active || reader.holder == Holder::Present {
            readers.push((active, reader));
        }
    }
    let waited_for = || readers.iter().filter(|(active, _)| *active);
    let used = waited_for().map(|(_, reader)| reader.behind).max();
    let used = used.unwrap_or(0);
    let slowest = waited_for()
        .map(|(_, reader)| reader)
        .filter(|reader| reader.behind == used);
    let points = vec![
        Point::new(128, "a message", holders([&producer]), "producer"),
        Point::new(256, "room", holders(slowest), "reader"),
    ];
    let mut ring = Ring {
        unit: "messages",
        capacity,
        used,
        pushed: tail,
        popped: tail.wrapping_sub(used),
        closed: word32(area, 132)? != 0,
        consumers_sleep: sleeps(word32(area, 128)?),
        producers_sleep: sleeps(word32(area, 256)?),
        roles: vec![producer],
        claims: Vec::new(),
    };
    ring.roles
        .extend(readers.into_iter().map(|(_, reader)| reader));
    Ok(Seen::ring(ring, points))
}

/// One producer, any number of readers, records: the words of `broadcast`, with positions in bytes, and marks.
pub(super) fn broadcast_bytes(area: &Area<ReadOnly>, entry: &Entry) -> Result<Seen, OutOfArea> {
    let mut seen = broadcast(area, entry)?;
    let pushed = number_at(area, 0)?;
    if let Some(ring) = &mut seen.ring {
        ring.unit = "bytes";
        ring.pushed = pushed;
        // Of the slowest reader that is waited for.
        let mut popped = pushed;
        for reader in ring.roles.iter().filter(|role| role.behind > 0) {
            let number = number_at(area, 512 + 128 * reader.lane.unwrap_or(0) + 16)?;
            if pushed.wrapping_sub(number) > pushed.wrapping_sub(popped) {
                popped = number;
            }
        }
        ring.popped = popped;
    }
    Ok(seen)
}

/// The number of the record at the position of a mark, from the note that names the position.
fn number_at(area: &Area<ReadOnly>, mark: usize) -> Result<u64, OutOfArea> {
    let position = word64(area, mark)?;
    let note = match word64(area, mark + 8)? == position {
        true => mark + 8,
        false => mark + 32,
    };
    word64(area, note + 8)
}

/// The journal of an object, by loads alone.
pub(crate) fn journal_log(object: &ObjectView) -> Result<Log<ReadOnly>, OutOfArea> {
    let (area, entry) = (object.area(), object.entry());
    let [capacity, rest] = entry.parameters;
    // The number of the lock byte does not matter: nothing is locked here.
    Log::new(area, capacity, (rest >> 1) as u16, 0, rest & 1 != 0)
}

/// Records that stay until they are trimmed.
pub(super) fn journal(object: &ObjectView) -> Result<Seen, OutOfArea> {
    let (area, log) = (object.area(), journal_log(object)?);
    let (start, end) = (log.start(), log.end());
    let ring = Ring {
        unit: "bytes",
        capacity: log.capacity(),
        used: end.wrapping_sub(start).min(log.capacity()),
        pushed: end,
        popped: start,
        consumers_sleep: sleeps(word32(area, 128)?),
        producers_sleep: sleeps(word32(area, 300)?),
        ..Ring::default()
    };
    let points = vec![
        Point::new(128, "a record", Vec::new(), "appender"),
        Point::new(300, "the disk", Vec::new(), "one who syncs"),
    ];
    let mut seen = Seen::ring(ring, points);
    seen.facts = vec![
        ("start", start.to_string()),
        ("end", end.to_string()),
        ("durable", log.durable().to_string()),
        ("syncs", log.syncs().to_string()),
    ];
    if word32(area, 296)? != 0 {
        seen.fault = Some("a sync has failed: read what is there, and create it anew".into());
    }
    Ok(seen)
}

//! `ipc inspect`: everything that can be seen of one segment.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use clap::Args;
use ipc_core::segment::SegmentView;
use serde_json::{Value, json};

use crate::look::counted::{Counted, Counts};
use crate::look::values::Decoder;
use crate::look::{Holder, Lock, Name, Object, Ring, Seen};
use crate::show::{self, Cell, Look, Screen, Table};

/// Show a segment: header, processes and whether they live, where each ring stands, who waits for whom.
///
/// It is mapped for reading only, and no place in it is taken: nothing here disturbs who uses it.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The segment: a name in the default directory, or a path, which has a slash
    name: String,

    /// Print the values in typed regions, from the layout that the segment carries
    #[arg(long)]
    fields: bool,

    /// Only this object
    #[arg(long, value_name = "NAME")]
    object: Option<String>,

    /// Print the layout of the elements of each object
    #[arg(long)]
    schema: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Inspect {
    /// Runs the command.
    pub(crate) fn run(&self) -> Result<()> {
        let view = Name(self.name.clone()).view()?;
        let mut seen = Seen::of(&view);
        if let Some(name) = &self.object {
            let names: Vec<String> = seen.objects.iter().map(|x| x.name.clone()).collect();
            seen.objects.retain(|object| object.name == *name);
            ensure!(
                !seen.objects.is_empty(),
                "{:?} holds no object {name:?}, but {}",
                self.name,
                names.join(", ")
            );
        }
        let screen = Screen::of_stdout();
        crate::print(&if self.json {
            self.json(&view, &seen)?
        } else if self.fields {
            fields(&view, &seen, &screen)?
        } else {
            self.text(&seen, &screen)
        })
    }

    fn json(&self, view: &SegmentView, seen: &Seen) -> Result<String> {
        let mut object = serde_json::to_value(seen)?;
        object["schema_version"] = 1.into();
        object["name"] = self.name.clone().into();
        if self.fields {
            let mut values = serde_json::Map::new();
            for object in &seen.objects {
                if let Some((value, _)) = values_of(view, object)? {
                    values.insert(object.name.clone(), value);
                }
            }
            object["fields"] = Value::Object(values);
        }
        Ok(serde_json::to_string(&object)? + "\n")
    }

    fn text(&self, seen: &Seen, screen: &Screen) -> String {
        let mut text = String::new();
        head(&mut text, seen, &self.name, screen);
        people(&mut text, seen, screen);
        for object in &seen.objects {
            self.object(&mut text, seen, object, screen);
        }
        waits(&mut text, seen, screen);
        text
    }

    fn object(&self, out: &mut String, seen: &Seen, object: &Object, screen: &Screen) {
        let element = object.schema.lines().next().unwrap_or_default();
        let line = format!(
            "\nobject {}  {} version {}, {}{}{}",
            screen.paint(&object.name, Look::Bold),
            object.kind,
            object.version,
            show::bytes(object.bytes),
            if element.is_empty() { "" } else { ", of " },
            element
        );
        let _ = writeln!(out, "{line}");
        if let Some(fault) = &object.fault {
            let _ = writeln!(out, "  {}", screen.paint(fault, Look::Bad));
        }
        if let Some(ring) = &object.ring {
            self::ring(out, seen, ring, screen);
        }
        if let Some(counted) = &object.counted {
            self::counted(out, seen, counted, screen);
        }
        if let Some(lock) = &object.lock {
            let _ = writeln!(out, "  {}", lock_text(seen, lock));
        }
        for (name, value) in &object.facts {
            let _ = writeln!(out, "  {name:<12} {value}");
        }
        if self.schema {
            for line in object.schema.lines() {
                let _ = writeln!(out, "  {}", screen.paint(line, Look::Faint));
            }
        }
    }
}

fn head(out: &mut String, seen: &Seen, name: &str, screen: &Screen) {
    let path = seen.path.as_ref().map(|path| path.display().to_string());
    let made = match seen.creator.this_boot {
        true => "since this machine was started",
        false => "before this machine was started last",
    };
    let mode = match (&seen.mode, seen.owner) {
        (Some(mode), Some(owner)) => format!(", mode {mode} of user {owner}"),
        _ => String::new(),
    };
    let name = screen.paint(&show::plain(name), Look::Bold);
    let _ = writeln!(
        out,
        "{name}  {}",
        screen.paint(seen.state.text(), seen.state.look())
    );
    let _ = writeln!(
        out,
        "  file     {}{mode}",
        show::plain(&path.unwrap_or_default())
    );
    let _ = writeln!(
        out,
        "  size     {} ({} bytes), format {}",
        show::bytes(seen.bytes),
        show::count(seen.bytes),
        seen.format
    );
    let _ = writeln!(out, "  uuid     {}", seen.uuid);
    let _ = writeln!(out, "  made     by process {}, {made}", seen.creator.pid);
    if seen.adoptions > 0 {
        let _ = writeln!(out, "  adopted  {} times as a copy", seen.adoptions);
    }
    if let Some(fault) = &seen.fault {
        let _ = writeln!(out, "  {}", screen.paint(fault, Look::Bad));
    }
    for warning in &seen.warnings {
        let _ = writeln!(out, "  {}", screen.paint(warning, Look::Warning));
    }
}

fn people(out: &mut String, seen: &Seen, screen: &Screen) {
    let _ = writeln!(
        out,
        "\nparticipants  {} of {}",
        seen.participants.len(),
        seen.places
    );
    let mut table = Table::new(&[">#", ">PID", "LIFE", "COMMAND", "HAS"]).indent(2);
    for who in &seen.participants {
        table.line(vec![
            who.number.to_string().into(),
            who.pid.to_string().into(),
            Cell::new(who.life.text(), who.life.look()),
            who.command.clone().unwrap_or_else(|| "-".into()).into(),
            has(seen, who.number).into(),
        ]);
    }
    if !table.is_empty() {
        out.push_str(&table.render(screen));
    }
}

/// What a participant has in its hands.
fn has(seen: &Seen, number: u16) -> String {
    let mut list = Vec::new();
    for object in &seen.objects {
        if let Some(ring) = &object.ring {
            let roles = ring.roles.iter();
            let roles = roles.filter(|role| role.participant == Some(number));
            list.extend(roles.map(|role| format!("{} of {}", role.role, object.name)));
            let claims = ring
                .claims
                .iter()
                .filter(|claim| claim.participant == number);
            list.extend(claims.map(|claim| format!("slot {} of {}", claim.slot, object.name)));
        }
        if let Some(lock) = &object.lock {
            if lock.holder == Some(number) {
                list.push(format!("lock {}", object.name));
            }
            if lock.readers.contains(&number) {
                list.push(format!("reads {}", object.name));
            }
        }
    }
    match list.is_empty() {
        true => "-".to_owned(),
        false => list.join(", "),
    }
}

fn ring(out: &mut String, seen: &Seen, ring: &Ring, screen: &Screen) {
    let share = show::share(ring.used, ring.capacity);
    let full = match ring.used >= ring.capacity {
        true => Look::Warning,
        false => Look::Plain,
    };
    let _ = writeln!(
        out,
        "  {} of {} {} ({:.0}%)  {}{}",
        show::count(ring.used),
        show::count(ring.capacity),
        ring.unit,
        share * 100.0,
        screen.paint(&show::bar(share, 20), full),
        if ring.closed { "  closed" } else { "" }
    );
    let _ = writeln!(
        out,
        "  pushed {}, taken {}",
        show::count(ring.pushed),
        show::count(ring.popped)
    );
    let mut table = Table::new(&["ROLE", "HOLDER", ">POSITION", ">BEHIND", ">CLAIMED"]).indent(2);
    for role in &ring.roles {
        let holder: Cell = match (role.holder, role.participant) {
            (Holder::Present, Some(number)) => seen.who(number).into(),
            (Holder::Never, _) => Cell::new("nobody yet", Look::Faint),
            (Holder::Died, _) => Cell::new("nobody: the last one died", Look::Warning),
            _ => Cell::new("nobody: the last one left", Look::Faint),
        };
        let name = match role.lane {
            Some(lane) => format!("{} {lane}", role.role),
            None => role.role.to_owned(),
        };
        table.line(vec![
            name.into(),
            holder,
            show::count(role.position).into(),
            show::count(role.behind).into(),
            show::count(role.claims).into(),
        ]);
    }
    if !table.is_empty() {
        out.push_str(&table.render(screen));
    }
    for claim in &ring.claims {
        let _ = writeln!(
            out,
            "  slot {} is {} by {}",
            claim.slot,
            claim.phase,
            seen.who(claim.participant)
        );
    }
}

/// What was counted at each end by all who ever worked there, and by each who works there now.
fn counted(out: &mut String, seen: &Seen, counted: &Counted, screen: &Screen) {
    let mut table = Table::new(&[
        "COUNTED BY",
        ">MESSAGES",
        ">BYTES",
        ">REFUSED",
        ">WAITS",
        ">WAKE-UPS",
        ">LAGGED",
        ">RECOVERED",
    ])
    .indent(2);
    let mut line = |who: String, counts: &Counts| {
        table.line(vec![
            who.into(),
            show::count(counts.messages).into(),
            show::bytes(counts.bytes).into(),
            show::count(counts.refused()).into(),
            show::count(counts.waits).into(),
            show::count(counts.wake_ups).into(),
            show::count(counts.lagged).into(),
            show::count(counts.recovered).into(),
        ]);
    };
    for (end, all) in [
        ("producer", &counted.produced),
        ("consumer", &counted.consumed),
    ] {
        let parties = || counted.parties.iter().filter(|party| party.end == end);
        if parties().next().is_none() {
            continue;
        }
        line(format!("all {end}s"), all);
        for party in parties() {
            if let Some(number) = party.participant {
                line(format!("  {}", seen.who(number)), &party.now);
            }
        }
    }
    if !table.is_empty() {
        out.push_str(&table.render(screen));
    }
}

fn lock_text(seen: &Seen, lock: &Lock) -> String {
    let mut text = match lock.holder {
        Some(holder) => format!("held by {}", seen.who(holder)),
        None if lock.ended => "ended".to_owned(),
        None => "free".to_owned(),
    };
    if let Some(next) = lock.next {
        text += &format!("; next is {}", seen.who(next));
    }
    if lock.waited_for {
        text += "; somebody sleeps for it";
    }
    if !lock.readers.is_empty() {
        let readers: Vec<String> = lock.readers.iter().map(|who| seen.who(*who)).collect();
        text += &format!("; read by {}", readers.join(", "));
    }
    text
}

fn waits(out: &mut String, seen: &Seen, screen: &Screen) {
    if seen.waits.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nwaiting");
    for wait in &seen.waits {
        let line = format!(
            "  {} waits for {}",
            seen.who(wait.participant),
            wait.text(seen)
        );
        let _ = writeln!(out, "{}", screen.paint(&line, Look::Plain));
    }
}

/// The values of a region, a slice, or the newest one of a register, as JSON and as lines of name and value.
type Values = (Value, Vec<(String, String)>);

/// Values of a slice that are shown.
const ELEMENTS: u64 = 64;

fn values_of(view: &SegmentView, object: &Object) -> Result<Option<Values>> {
    // The name as it is shown has lost what a terminal would obey, so it is looked for by its place.
    let entry = view
        .entries()
        .iter()
        .find(|entry| entry.offset == object.offset);
    let Some(entry) = entry else {
        return Ok(None);
    };
    let Some(decoder) = Decoder::new(&entry.schema) else {
        return Ok(None);
    };
    let area = view.object(&entry.name)?;
    let size = decoder.size().min(1 << 20);
    let read = |at: u64| -> Result<Vec<u8>> {
        let mut bytes = vec![0; size];
        area.area().read(at as usize, &mut bytes)?;
        Ok(bytes)
    };
    let one = |bytes: &[u8]| (decoder.json(bytes), decoder.fields(bytes).collect());
    Ok(match &*object.kind {
        "region" => Some(one(&read(0)?)),
        "mutex" | "rwlock" => {
            let counts = match &*object.kind {
                "rwlock" => 64 * entry.parameters[0].min(16_382),
                _ => 0,
            };
            Some(one(&read((128 + counts).next_multiple_of(128))?))
        }
        "latest" => {
            let register = ipc_core::sync::Register::new(area.area(), size)?;
            let mut bytes = vec![0; size];
            match register.read(&mut bytes) {
                Some(version) if version > 0 => Some(one(&bytes)),
                _ => None,
            }
        }
        "slice" => {
            let count = entry.parameters[0];
            let (mut list, mut lines) = (Vec::new(), Vec::new());
            for index in 0..count.min(ELEMENTS) {
                let at = index.saturating_mul(decoder.size() as u64);
                let bytes = read(at)?;
                list.push(decoder.json(&bytes));
                let named = |(name, value)| (format!("[{index}].{name}"), value);
                lines.extend(decoder.fields(&bytes).map(named));
            }
            if count > ELEMENTS {
                lines.push(("...".into(), format!("{count} in all")));
            }
            Some((Value::Array(list), lines))
        }
        _ => None,
    })
}

fn fields(view: &SegmentView, seen: &Seen, screen: &Screen) -> Result<String> {
    let mut text = String::new();
    for object in &seen.objects {
        let values = values_of(view, object)
            .with_context(|| format!("the values of {:?} cannot be read", object.name))?;
        let Some((_, lines)) = values else {
            continue;
        };
        let _ = writeln!(
            text,
            "{}  {}",
            screen.paint(&object.name, Look::Bold),
            object.kind
        );
        let widest = lines
            .iter()
            .map(|(name, _)| show::length(name))
            .max()
            .unwrap_or(0);
        for (name, value) in lines {
            let _ = writeln!(text, "  {name:<widest$}  {value}");
        }
    }
    ensure!(
        !text.is_empty(),
        "no object here has values that stay: rings are followed by `ipc tail`; objects: {}",
        json!(seen.objects.iter().map(|x| &x.name).collect::<Vec<_>>())
    );
    Ok(text)
}

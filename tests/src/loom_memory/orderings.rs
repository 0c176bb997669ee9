//! The orderings of a source file, each under a name, so that a model can forget one of them.
//!
//! The name of a part of an ordering is `function: part`, or `function n: part` for the nth ordering in that function. The
//! parts are `Acquire` and `Release`, one or both of them in each access, and `fence`. Beyond these, a model may take an
//! exchange for a load and a store, both relaxed: `function: exchange`.

use std::panic::Location;
use std::sync::atomic::Ordering;

/// A part of an ordering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Of a load, or of the load of an exchange.
    Acquire,
    /// Of a store, or of the store of an exchange.
    Release,
    /// A whole fence.
    Fence,
    /// That an exchange is one step. Also keeps the release of what is replaced.
    Exchange,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Acquire => "Acquire",
            Self::Release => "Release",
            Self::Fence => "fence",
            Self::Exchange => "exchange",
        }
    }
}

/// A part that is forgotten wherever the source has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weakening {
    file: &'static str,
    /// Line and column behind which the access begins, and up to which it does.
    from: (u32, u32),
    to: (u32, u32),
    part: Part,
}

impl Weakening {
    /// Whether the caller is the access that this is about.
    fn is_of(&self, caller: &Location<'_>) -> bool {
        let place = (caller.line(), caller.column());
        caller.file().ends_with(self.file) && self.from < place && place <= self.to
    }

    /// What is left of the ordering of an access from there.
    pub fn left(&self, caller: &Location<'_>, order: Ordering) -> Ordering {
        if !self.is_of(caller) {
            return order;
        }
        match (self.part, order) {
            (Part::Acquire, Ordering::AcqRel | Ordering::SeqCst) => Ordering::Release,
            (Part::Release, Ordering::AcqRel | Ordering::SeqCst) => Ordering::Acquire,
            (Part::Acquire, Ordering::Acquire) | (Part::Release, Ordering::Release) => {
                Ordering::Relaxed
            }
            _ => order,
        }
    }

    /// Whether that part of an access from there is forgotten.
    pub fn forgets(&self, caller: &Location<'_>, part: Part) -> bool {
        self.part == part && self.is_of(caller)
    }
}

/// The orderings of a source file, relaxed ones left out.
pub struct Orderings {
    file: &'static str,
    all: Vec<Named>,
}

struct Named {
    /// `function`, or `function n`.
    name: String,
    from: (u32, u32),
    to: (u32, u32),
    parts: Vec<Part>,
}

/// What stands for an ordering in the source, and its parts.
const WORDS: &[(&str, &[Part])] = &[
    ("Acquire", &[Part::Acquire]),
    ("Release", &[Part::Release]),
    ("AcqRel", &[Part::Acquire, Part::Release]),
    ("SeqCst", &[Part::Acquire, Part::Release]),
    ("fence_if_asked", &[Part::Fence]),
    ("fence_everyone", &[Part::Fence]),
];

impl Orderings {
    /// Those of a file, by its path in the repository and what stood in it when this was compiled.
    pub fn of(file: &'static str, source: &str) -> Self {
        Self {
            file,
            all: find(source),
        }
    }

    /// The names of all parts.
    pub fn names(&self) -> Vec<String> {
        let names = self.all.iter().flat_map(|named| {
            let name = |part: &Part| format!("{}: {}", named.name, part.name());
            named.parts.iter().map(name)
        });
        names.collect()
    }

    /// What forgets the part of that name.
    ///
    /// # Panics
    ///
    /// If there is none; the message says which there are.
    pub fn without(&self, name: &str) -> Weakening {
        let found = self.all.iter().find_map(|named| {
            let part = name.strip_prefix(&named.name)?.strip_prefix(": ")?;
            let exchange = [Part::Exchange];
            let mut parts = named.parts.iter().chain(&exchange);
            let part = *parts.find(|known| known.name() == part)?;
            Some(Weakening {
                file: self.file,
                from: named.from,
                to: named.to,
                part,
            })
        });
        found.unwrap_or_else(|| {
            let names = self.names().join(", ");
            panic!("{} has no {name:?}, but: {names}", self.file)
        })
    }
}

fn find(source: &str) -> Vec<Named> {
    let is_part = |char: char| char.is_alphanumeric() || char == '_';
    let mut all: Vec<Named> = Vec::new();
    let (mut function, mut from) = ("", (0, 0));
    for (number, line) in (1..).zip(source.lines()) {
        if line.starts_with("#[cfg(test)]") {
            break;
        }
        let code = line.split("//").next().unwrap_or_default();
        if code.trim_start().starts_with("use ") {
            continue;
        }
        let mut column = 0;
        let mut before = "";
        for word in code.split_inclusive(|char| !is_part(char)) {
            let name = word.trim_end_matches(|char| !is_part(char));
            if before == "fn" {
                (function, from) = (name, (number, column));
            } else if let Some((_, parts)) = WORDS.iter().find(|(known, _)| *known == name) {
                let is_fence = code[..column as usize].ends_with("fence(");
                let same = |named: &&Named| named.name.split(' ').next() == Some(function);
                let to = (number, column + 1);
                all.push(Named {
                    name: match all.iter().filter(same).count() {
                        0 => function.to_owned(),
                        count => format!("{function} {}", count + 1),
                    },
                    from,
                    to,
                    parts: if is_fence {
                        vec![Part::Fence]
                    } else {
                        parts.to_vec()
                    },
                });
                from = to;
            }
            if !name.is_empty() {
                // The type of a function has no name.
                before = if word.starts_with("fn(") { "" } else { name };
            }
            column += word.len() as u32;
        }
    }
    all
}

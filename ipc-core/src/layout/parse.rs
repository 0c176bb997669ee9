//! Reads a schema back from its text, which may come from a peer that means harm.
//!
//! Never panics, never takes more memory than a small multiple of the text, and accepts nothing that
//! [`Schema::text`] would not have written.

use super::schema::{Kind, MAX_STRUCTS, MAX_WRAPPERS};
use super::{Field, Primitive, Schema};

/// The longest text of a schema, in bytes.
pub const MAX_TEXT: usize = 64 * 1024;

/// Why a text is no schema: the line, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the schema text is damaged at line {line}: {problem}")]
pub struct SchemaError {
    line: usize,
    problem: &'static str,
}

impl Schema {
    /// Reads the text of a schema, which is trusted in nothing.
    ///
    /// # Errors
    ///
    /// If the text differs in any byte from what [`Schema::text`] writes, or describes a type that cannot be: the line and
    /// the rule of the [grammar](super#the-text) that it breaks.
    pub fn parse(text: &str) -> Result<Schema, SchemaError> {
        if text.len() > MAX_TEXT {
            return Err(SchemaError {
                line: 1,
                problem: "the text is longer than 64 KiB",
            });
        }
        let mut lines = Lines {
            rest: text,
            taken: 0,
        };
        let parsed = lines.schema();
        parsed.map_err(|problem| SchemaError {
            line: lines.taken.max(1),
            problem,
        })
    }
}

/// The lines that are not parsed yet.
struct Lines<'a> {
    rest: &'a str,
    taken: usize,
}

impl<'a> Lines<'a> {
    fn schema(&mut self) -> Result<Schema, &'static str> {
        let line = self.take(0)?.ok_or("there is no text")?;
        let schema = self.typed(Line::parse(line)?, 1)?;
        if !self.rest.is_empty() {
            self.taken += 1;
            return Err("a line belongs to no struct, or is indented wrongly");
        }
        Ok(schema)
    }

    /// The next line without its indentation, if it is indented by `depth` steps.
    fn take(&mut self, depth: usize) -> Result<Option<&'a str>, &'static str> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (line, rest) = self
            .rest
            .split_once('\n')
            .ok_or("the last line does not end with a newline")?;
        let content = line.trim_start_matches(' ');
        if line.len() - content.len() != 2 * depth {
            return Ok(None);
        }
        self.rest = rest;
        self.taken += 1;
        Ok(Some(content))
    }

    /// The schema of the type on `line`, and the fields below it at `depth` if there is a struct in it.
    fn typed(&mut self, line: Line<'_>, depth: usize) -> Result<Schema, &'static str> {
        let Line {
            mut inner,
            size,
            align,
        } = line;
        let mut wrappers = Vec::new();
        let mut inner_size = size;
        let mut schema = loop {
            if wrappers.len() > MAX_WRAPPERS {
                return Err("more than 8 arrays, cells and atomics around each other");
            }
            if let Some(array) = inner.strip_prefix('[') {
                let (element, count) = array
                    .strip_suffix(']')
                    .and_then(|array| array.rsplit_once("; "))
                    .ok_or(TYPE)?;
                let count = number(count)?;
                if count == 0 || inner_size % count != 0 {
                    return Err("the size is not that of so many elements");
                }
                inner_size /= count;
                wrappers.push(Wrapper::Array(count));
                inner = element;
            } else if let Some(cell) = inner.strip_prefix("cell<") {
                wrappers.push(Wrapper::Cell);
                inner = cell.strip_suffix('>').ok_or(TYPE)?;
            } else if let Some(name) = inner.strip_prefix("struct ") {
                break self.structure(name, inner_size, align, depth)?;
            } else {
                break number_type(inner, inner_size, align)?;
            }
        };
        if wrappers.len() + usize::from(matches!(schema.kind, Kind::Atomic(_))) > MAX_WRAPPERS {
            return Err("more than 8 arrays, cells and atomics around each other");
        }
        while let Some(wrapper) = wrappers.pop() {
            let inner = Box::new(schema);
            schema = match wrapper {
                Wrapper::Cell => Schema {
                    size: inner.size,
                    align,
                    kind: Kind::Cell(inner),
                },
                // The division above left no remainder, so that this is the size it began with.
                Wrapper::Array(count) => Schema {
                    size: inner.size * count,
                    align,
                    kind: Kind::Array(inner, count),
                },
            };
        }
        Ok(schema)
    }

    fn structure(
        &mut self,
        name: &str,
        size: u64,
        align: u64,
        depth: usize,
    ) -> Result<Schema, &'static str> {
        if depth > MAX_STRUCTS {
            return Err("more than 16 structs within each other");
        }
        let mut fields = Vec::new();
        while let Some(line) = self.take(depth)? {
            let (name, line) = line
                .split_once(": ")
                .ok_or("a field is `name: type at N size N align N`")?;
            let (offset, line) = Line::parse_field(line)?;
            fields.push(Field {
                name: name.to_owned(),
                offset,
                schema: self.typed(line, depth + 1)?,
            });
        }
        Schema::checked_struct(name, size, align, fields)
    }
}

enum Wrapper {
    Cell,
    Array(u64),
}

const TYPE: &str =
    "not a type: expected `u64` and the like, `atomic<…>`, `cell<…>`, `[…; N]` or `struct name`";

/// A type in words, and its shape.
struct Line<'a> {
    inner: &'a str,
    size: u64,
    align: u64,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Result<Line<'a>, &'static str> {
        const SHAPE: &str = "a line ends with ` size N align N`";
        let (line, align) = line.rsplit_once(" align ").ok_or(SHAPE)?;
        let (inner, size) = line.rsplit_once(" size ").ok_or(SHAPE)?;
        Ok(Line {
            inner,
            size: number(size)?,
            align: number(align)?,
        })
    }

    fn parse_field(line: &'a str) -> Result<(u64, Line<'a>), &'static str> {
        let line = Line::parse(line)?;
        let (inner, offset) = line
            .inner
            .rsplit_once(" at ")
            .ok_or("a field says ` at N` behind its type")?;
        Ok((number(offset)?, Line { inner, ..line }))
    }
}

/// A primitive or an atomic, with the shape that it must have.
fn number_type(name: &str, size: u64, align: u64) -> Result<Schema, &'static str> {
    let (primitive, kind) = match name.strip_prefix("atomic<") {
        Some(atomic) => {
            let primitive = atomic
                .strip_suffix('>')
                .and_then(Primitive::from_name)
                .ok_or(TYPE)?;
            if !primitive.is_integer() {
                return Err("an atomic is an integer");
            }
            (primitive, Kind::Atomic(primitive))
        }
        None => {
            let primitive = Primitive::from_name(name).ok_or(TYPE)?;
            (primitive, Kind::Primitive(primitive))
        }
    };
    if size != primitive.size() {
        return Err("the size is not that of the type");
    }
    if !align.is_power_of_two() || align > size {
        return Err("the alignment is not one of the type");
    }
    Ok(Schema { size, align, kind })
}

/// A decimal number below 2^63 as the writer would have written it.
fn number(digits: &str) -> Result<u64, &'static str> {
    const NUMBER: &str = "not a decimal number below 2^63 without leading zeros";
    let canonical = digits == "0" || !digits.starts_with('0');
    if !canonical || digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(NUMBER);
    }
    digits
        .parse()
        .ok()
        .filter(|&number| number < 1 << 63)
        .ok_or(NUMBER)
}

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
            return Err("the line belongs to no struct");
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
        let indent = line.len() - content.len();
        if indent < 2 * depth {
            return Ok(None);
        }
        self.rest = rest;
        self.taken += 1;
        match indent == 2 * depth {
            true => Ok(Some(content)),
            false => Err("the line is indented too far"),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, line: usize, word: &str) {
        let error = Schema::parse(text).expect_err(text);
        assert_eq!(error.line, line, "{error}");
        assert!(error.problem.contains(word), "{error} has no {word:?}");
    }

    #[test]
    fn a_damaged_text_is_refused_with_its_line_and_its_fault() {
        // Catches a rule that is not checked, or a message that points elsewhere.
        refused("", 1, "no text");
        refused("u64 size 8 align 8", 1, "newline");
        refused(" u64 size 8 align 8\n", 1, "indented");
        refused("u64 size 8 align 8\n\n", 2, "belongs to no struct");
        refused(
            "u64 size 8 align 8\n  a: u8 at 0 size 1 align 1\n",
            2,
            "belongs to no struct",
        );
        refused("u64 size 4 align 4\n", 1, "size");
        refused("u64 size 8 align 16\n", 1, "alignment");
        refused("u64 size 08 align 8\n", 1, "leading zeros");
        refused("u64 size +8 align 8\n", 1, "decimal");
        refused("u64 size 9223372036854775808 align 8\n", 1, "2^63");
        refused("u64 size 99999999999999999999 align 8\n", 1, "2^63");
        refused("u65 size 8 align 8\n", 1, "not a type");
        refused("atomic<f64> size 8 align 8\n", 1, "integer");
        refused("atomic<u64 size 8 align 8\n", 1, "not a type");
        refused("[u64; 0] size 0 align 8\n", 1, "elements");
        refused("[u64; 3] size 25 align 8\n", 1, "elements");
        refused("[u64; 3] size 48 align 8\n", 1, "the type");
        refused("struct A size 8 align 8\n", 1, "at least one field");
        refused(
            "struct A B size 1 align 1\n  a: u8 at 0 size 1 align 1\n",
            2,
            "name of a struct",
        );
        refused(
            "struct A size 1 align 1\n  a: u8 size 1 align 1\n",
            2,
            "at N",
        );
        refused(
            "struct A size 1 align 1\n  u8 at 0 size 1 align 1\n",
            2,
            "name: type",
        );
        refused(
            "struct A size 2 align 1\n  a: u8 at 1 size 1 align 1\n",
            2,
            "begins where",
        );
        refused(
            "struct A size 2 align 1\n  a: u8 at 0 size 1 align 1\n",
            2,
            "does not end",
        );
        refused(
            "struct A size 1 align 1\n   a: u8 at 0 size 1 align 1\n",
            2,
            "indented too far",
        );
        refused(&"u".repeat(MAX_TEXT + 1), 1, "64 KiB");
    }

    #[test]
    fn what_is_nested_too_deep_is_refused_before_the_stack_ends() {
        // Catches a recursion that a peer decides the depth of.
        let arrays = |n: usize| format!("{}u8{} size 1 align 1\n", "[".repeat(n), "; 1]".repeat(n));
        assert!(Schema::parse(&arrays(8)).is_ok());
        refused(&arrays(9), 1, "more than 8");
        refused(&arrays(10_000), 1, "more than 8");
        refused(
            &format!(
                "{}atomic<u8>{} size 1 align 1\n",
                "[".repeat(8),
                "; 1]".repeat(8)
            ),
            1,
            "more than 8",
        );
        let structs = |n: usize| {
            let mut text = "struct A size 1 align 1\n".to_owned();
            (1..n).for_each(|i| {
                text += &format!("{:1$}a: struct A at 0 size 1 align 1\n", "", 2 * i)
            });
            text + &format!("{:1$}a: u8 at 0 size 1 align 1\n", "", 2 * n)
        };
        assert!(Schema::parse(&structs(16)).is_ok());
        refused(&structs(17), 17, "more than 16");
        refused(&structs(150), 17, "more than 16");
    }

    #[test]
    fn fields_that_overflow_are_refused() {
        // Catches unchecked sums: four fields of 2^62 bytes are 2^64.
        let field = |i: u64| {
            format!(
                "  f{i}: [u8; {0}] at {1} size {0} align 1\n",
                1_u64 << 62,
                i << 62
            )
        };
        refused(
            &format!(
                "struct A size 0 align 1\n{}{}{}",
                field(0),
                field(1),
                field(2)
            ),
            4,
            "2^63",
        );
        let far = u64::MAX >> 1;
        let field =
            |name: &str, at: u64| format!("  {name}: [u8; {far}] at {at} size {far} align 1\n");
        refused(
            &format!(
                "struct A size 0 align 1\n{}{}",
                field("a", 0),
                field("b", far)
            ),
            3,
            "does not end",
        );
    }

    #[test]
    fn no_text_makes_the_parser_panic_or_accept_what_the_writer_would_not_write() {
        // Catches panics on mutated text, a second spelling of a schema, leaves outside the type, and two schemas with
        // different texts of which `differences` says nothing.
        let seed = std::env::var("IPC_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or(0x9E37_79B9_7F4A_7C15);
        println!("IPC_TEST_SEED={seed}");
        let mut random = Xorshift(seed | 1);
        let original = Schema::parse(SEED_TEXT).unwrap();
        let mut accepted = 0;
        for _ in 0..50_000 {
            let mut text = SEED_TEXT.as_bytes().to_vec();
            for _ in 0..=random.below(3) {
                mutate(&mut text, &mut random);
            }
            let Ok(text) = std::str::from_utf8(&text) else {
                continue;
            };
            let Ok(schema) = Schema::parse(text) else {
                continue;
            };
            accepted += 1;
            assert_eq!(schema.text(), text);
            assert_eq!(
                original.differences(&schema).is_empty(),
                schema == original,
                "{text}"
            );
            assert!(
                schema
                    .leaves(100)
                    .iter()
                    .all(|leaf| leaf.range().end <= schema.size()),
                "{text}"
            );
        }
        assert!(
            accepted > 100,
            "the mutations are too wild to test what lies behind the first check: {accepted}"
        );
    }

    const SEED_TEXT: &str = "\
struct feed.Book size 64 align 8
  seq: atomic<u64> at 0 size 8 align 8
  bids: [struct feed.Level; 2] at 8 size 32 align 8
    price: f64 at 0 size 8 align 8
    qty: u32 at 8 size 4 align 4
    _pad: [u8; 4] at 12 size 4 align 1
  symbol: [[u8; 4]; 2] at 40 size 8 align 1
  last: cell<struct feed.Level> at 48 size 16 align 8
    price: f64 at 0 size 8 align 8
    qty: u32 at 8 size 4 align 4
    _pad: [u8; 4] at 12 size 4 align 1
";

    /// One of: another byte, a byte of the text elsewhere, a run left out, a run twice, a number with another digit.
    fn mutate(text: &mut Vec<u8>, random: &mut Xorshift) {
        if text.is_empty() {
            return;
        }
        let at = random.below(text.len());
        let run = at..text.len().min(at + 1 + random.below(40));
        match random.below(6) {
            0 => text[at] = random.below(256) as u8,
            1 => text[at] = text[random.below(text.len())],
            2 => drop(text.drain(run)),
            3 => {
                let copy = text[run.clone()].to_vec();
                text.splice(run.start..run.start, copy);
            }
            4 => text[at] = b"0123456789"[random.below(10)],
            _ => text[at] = b"abu[]<>;:. \n"[random.below(12)],
        }
    }

    struct Xorshift(u64);

    impl Xorshift {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % bound as u64) as usize
        }
    }
}

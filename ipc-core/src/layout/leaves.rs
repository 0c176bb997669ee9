//! The values in a type, for whoever prints them without the type: `ipc inspect --fields`.

use std::ops::Range;

use super::schema::Kind;
use super::{Primitive, Schema};

/// How many elements of an array are printed.
const SHOWN: usize = 16;

/// A number, or a run of like numbers, somewhere within a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    path: String,
    primitive: Primitive,
    offset: u64,
    count: u64,
}

impl Schema {
    /// The first `limit` numbers of the type in the order of their offsets.
    ///
    /// An array of numbers is one leaf; an array of structs has leaves for each element. Hence the limit: a text of a few
    /// bytes can describe any number of elements.
    pub fn leaves(&self, limit: usize) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        collect(&mut leaves, limit, String::new(), 0, self);
        leaves
    }
}

impl Leaf {
    /// Where the value is in its type, as in Rust: `header.seq`, `bids[0].price`. A type that is no struct is `value`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The type of the number.
    pub fn primitive(&self) -> Primitive {
        self.primitive
    }

    /// How many numbers there are, one after the other.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The bytes of the leaf, counted from the start of the whole type.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.primitive.size() * self.count
    }

    /// The value in words, from the bytes at [`Leaf::range`]: `42`, `[1, 2]`, or `"AAPL"` for an array of `u8` that is
    /// printable up to its trailing zeros. Of a long array the first 16 numbers. Bytes that are missing are left out.
    pub fn format(&self, bytes: &[u8]) -> String {
        let printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        if self.primitive == Primitive::U8 && self.count > 1 {
            let length = bytes
                .iter()
                .rposition(|&byte| byte != 0)
                .map_or(0, |last| last + 1);
            let text = &bytes[..length];
            if !text.is_empty() && text.iter().all(printable) {
                return format!("{:?}", String::from_utf8_lossy(text));
            }
        }
        let numbers = bytes
            .chunks_exact(self.primitive.size() as usize)
            .map(|number| format_number(self.primitive, number));
        if self.count == 1 {
            return numbers.take(1).collect();
        }
        let shown = numbers.take(SHOWN).collect::<Vec<_>>().join(", ");
        match self.count > SHOWN as u64 {
            true => format!("[{shown}, ... {} in all]", self.count),
            false => format!("[{shown}]"),
        }
    }
}

/// Appends the leaves of `schema`, which is at `path` and `offset`, while there are fewer than `limit`.
///
/// Nothing overflows: every leaf lies within the whole type, whose size is below 2^63.
fn collect(leaves: &mut Vec<Leaf>, limit: usize, path: String, offset: u64, schema: &Schema) {
    if leaves.len() >= limit {
        return;
    }
    match &schema.kind {
        Kind::Cell(inner) => collect(leaves, limit, path, offset, inner),
        Kind::Struct(_, fields) => {
            for field in fields {
                let dot = if path.is_empty() { "" } else { "." };
                collect(
                    leaves,
                    limit,
                    format!("{path}{dot}{}", field.name),
                    offset + field.offset,
                    &field.schema,
                );
                if leaves.len() >= limit {
                    return;
                }
            }
        }
        Kind::Array(inner, count) if !schema.fields().is_empty() => {
            let path = if path.is_empty() { "value" } else { &path };
            for index in 0..*count {
                collect(
                    leaves,
                    limit,
                    format!("{path}[{index}]"),
                    offset + index * inner.size,
                    inner,
                );
                if leaves.len() >= limit {
                    return;
                }
            }
        }
        Kind::Array(..) | Kind::Primitive(_) | Kind::Atomic(_) => {
            let (Kind::Primitive(primitive) | Kind::Atomic(primitive)) = schema.innermost().kind
            else {
                unreachable!("what has no fields is made of numbers");
            };
            let path = if path.is_empty() {
                "value".to_owned()
            } else {
                path
            };
            leaves.push(Leaf {
                path,
                primitive,
                offset,
                count: schema.size / primitive.size(),
            });
        }
    }
}

fn format_number(primitive: Primitive, bytes: &[u8]) -> String {
    macro_rules! number {
        ($type:ty) => {
            bytes
                .try_into()
                .map(|bytes| <$type>::from_ne_bytes(bytes).to_string())
                .unwrap_or_default()
        };
    }
    match primitive {
        Primitive::U8 => number!(u8),
        Primitive::U16 => number!(u16),
        Primitive::U32 => number!(u32),
        Primitive::U64 => number!(u64),
        Primitive::I8 => number!(i8),
        Primitive::I16 => number!(i16),
        Primitive::I32 => number!(i32),
        Primitive::I64 => number!(i64),
        Primitive::F32 => number!(f32),
        Primitive::F64 => number!(f64),
    }
}

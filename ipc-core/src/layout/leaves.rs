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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;

    #[derive(Layout)]
    #[repr(C)]
    struct Book {
        seq: u64,
        bids: [Level; 2],
        symbol: [u8; 8],
        depth: [[i16; 2]; 2],
    }

    #[derive(Layout)]
    #[repr(C)]
    struct Level {
        price: f64,
        live: std::sync::atomic::AtomicU64,
    }

    fn described(schema: &Schema, limit: usize) -> Vec<(String, String)> {
        let words = |leaf: &Leaf| {
            format!(
                "{} x {} at {:?}",
                leaf.primitive().name(),
                leaf.count(),
                leaf.range()
            )
        };
        schema
            .leaves(limit)
            .iter()
            .map(|leaf| (leaf.path().to_owned(), words(leaf)))
            .collect()
    }

    #[test]
    fn every_number_has_a_path_and_a_place() {
        // Catches a wrong offset within nested structs and arrays: whoever reads there shows another field's value.
        let expected = [
            ("seq", "u64 x 1 at 0..8"),
            ("bids[0].price", "f64 x 1 at 8..16"),
            ("bids[0].live", "u64 x 1 at 16..24"),
            ("bids[1].price", "f64 x 1 at 24..32"),
            ("bids[1].live", "u64 x 1 at 32..40"),
            ("symbol", "u8 x 8 at 40..48"),
            ("depth", "i16 x 4 at 48..56"),
        ];
        let expected = expected.map(|(path, words)| (path.to_owned(), words.to_owned()));
        assert_eq!(described(&Book::schema(), 100), expected);
        assert_eq!(described(&Book::schema(), 3), expected[..3]);
        assert_eq!(
            described(&Schema::cell::<Level>(), 1),
            [("price".into(), "f64 x 1 at 0..8".into())]
        );
        assert_eq!(
            described(&<[u32; 2]>::schema(), 9),
            [("value".into(), "u32 x 2 at 0..8".into())]
        );
        assert_eq!(described(&<[Level; 2]>::schema(), 3)[2].0, "value[1].price");
    }

    #[test]
    fn few_bytes_that_describe_many_elements_cost_little() {
        // Catches an expansion without a limit: this text describes 2^60 structs.
        let text = "[struct A; 1152921504606846976] size 1152921504606846976 align 1\n  a: u8 at 0 size 1 align 1\n";
        let leaves = Schema::parse(text).unwrap().leaves(1000);
        assert_eq!((leaves.len(), leaves[999].range()), (1000, 999..1000));
    }

    #[test]
    fn values_are_printed_as_in_rust() {
        // Catches a number read with the wrong sign, width or byte order, and text that is not shown as text.
        let print = |schema: Schema, bytes: &[u8]| schema.leaves(1)[0].format(bytes);
        assert_eq!(print(u64::schema(), &7_u64.to_ne_bytes()), "7");
        assert_eq!(print(i16::schema(), &(-2_i16).to_ne_bytes()), "-2");
        assert_eq!(print(f64::schema(), &1.5_f64.to_ne_bytes()), "1.5");
        assert_eq!(print(<[u8; 8]>::schema(), b"AAPL\0\0\0\0"), "\"AAPL\"");
        assert_eq!(print(<[u8; 4]>::schema(), b"A\0\x01\0"), "[65, 0, 1, 0]");
        assert_eq!(print(<[u8; 2]>::schema(), b"\0\0"), "[0, 0]");
        assert_eq!(print(u8::schema(), b"A"), "65");
        assert_eq!(
            print(<[i8; 20]>::schema(), &[255; 20]),
            format!("[{}... 20 in all]", "-1, ".repeat(16))
        );
        assert_eq!(
            print(<[u32; 2]>::schema(), &[0; 7]),
            "[0]",
            "bytes are missing"
        );
        assert_eq!(print(u32::schema(), &[]), "", "bytes are missing");
    }
}

//! The schema of a type as a value, its text and its fingerprint.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use super::Layout;

/// How many structs may lie within each other.
pub(super) const MAX_STRUCTS: usize = 16;
/// How many arrays, cells and atomics may lie around each other in one type.
pub(super) const MAX_WRAPPERS: usize = 8;
/// The longest name of a struct or a field, in bytes.
const MAX_NAME: usize = 64;

/// What a type looks like in memory: its name, its size and alignment, and the name, type and offset of each field.
///
/// Every schema, built or parsed, keeps the rules of [the text](super#the-text): no padding, no overlap, nothing outside.
/// `Display` gives the type alone (`[struct feed.Level; 10]`), [`Schema::text`] the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    pub(super) size: u64,
    pub(super) align: u64,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Primitive(Primitive),
    Atomic(Primitive),
    Cell(Box<Schema>),
    Array(Box<Schema>, u64),
    Struct(String, Vec<Field>),
}

/// A field of a struct: its name, its offset from the start of the struct in bytes, and its own schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) schema: Schema,
}

impl Field {
    /// The field `name` of type `T` at `offset` bytes from the start of its struct.
    pub fn new<T: Layout>(name: &str, offset: usize) -> Field {
        Field {
            name: name.to_owned(),
            offset: offset as u64,
            schema: T::schema(),
        }
    }
}

impl Schema {
    /// The struct `T` with these fields. `#[derive(Layout)]` writes the call.
    ///
    /// # Panics
    ///
    /// If the fields leave padding, overlap or are not in the order of their offsets, if a name is not as the
    /// [grammar](super#the-text) wants it, or if structs are nested more than 16 deep.
    pub fn structure<T>(name: &str, fields: Vec<Field>) -> Schema {
        match Schema::checked_struct(name, size_of::<T>() as u64, align_of::<T>() as u64, fields) {
            Ok(schema) => schema,
            Err(problem) => panic!("the layout of struct {name}: {problem}"),
        }
    }

    /// A cell that holds a `T` of which copies are read and written, with the size and alignment of `T`.
    pub fn cell<T: Layout>() -> Schema {
        let inner = T::schema();
        Schema {
            size: inner.size,
            align: inner.align,
            kind: Kind::Cell(Box::new(inner)),
        }
        .with_few_wrappers()
    }

    pub(super) fn array<T: Layout>(count: usize) -> Schema {
        let size = (size_of::<T>() * count) as u64;
        let inner = T::schema();
        Schema {
            size,
            align: inner.align,
            kind: Kind::Array(Box::new(inner), count as u64),
        }
        .with_few_wrappers()
    }

    pub(super) fn primitive<T>(primitive: Primitive) -> Schema {
        Schema {
            size: size_of::<T>() as u64,
            align: align_of::<T>() as u64,
            kind: Kind::Primitive(primitive),
        }
    }

    pub(super) fn atomic<T>(primitive: Primitive) -> Schema {
        Schema {
            size: size_of::<T>() as u64,
            align: align_of::<T>() as u64,
            kind: Kind::Atomic(primitive),
        }
    }

    /// The size of the type in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The alignment of the type in bytes, a power of two.
    pub fn align(&self) -> u64 {
        self.align
    }

    /// The schema as text, in the [grammar](super#the-text) that [`Schema::parse`] reads.
    ///
    /// A text longer than [`MAX_TEXT`](super::MAX_TEXT) is written but not read back: check before storing it.
    pub fn text(&self) -> String {
        let mut text = format!("{self} size {} align {}\n", self.size, self.align);
        write_fields(&mut text, self, 1);
        text
    }

    /// A number that tells layouts apart: BLAKE2b of 8 bytes over the text, as a little-endian number.
    pub fn fingerprint(&self) -> u64 {
        super::fingerprint(&self.text())
    }

    /// The schema within all arrays and cells: a primitive, an atomic or a struct.
    pub(super) fn innermost(&self) -> &Schema {
        match &self.kind {
            Kind::Cell(inner) | Kind::Array(inner, _) => inner.innermost(),
            Kind::Primitive(_) | Kind::Atomic(_) | Kind::Struct(..) => self,
        }
    }

    /// The fields of the struct within all arrays and cells; none if there is no struct.
    pub(super) fn fields(&self) -> &[Field] {
        match &self.innermost().kind {
            Kind::Struct(_, fields) => fields,
            _ => &[],
        }
    }

    /// A struct of the given shape, or which rule it breaks. Built and parsed structs both pass through here.
    pub(super) fn checked_struct(
        name: &str,
        size: u64,
        align: u64,
        fields: Vec<Field>,
    ) -> Result<Schema, &'static str> {
        if !is_name(name, b"_.-") {
            return Err("a name of a struct is 1 to 64 of A-Z a-z 0-9 _ . -");
        }
        if fields.is_empty() {
            return Err("a struct has at least one field");
        }
        if !align.is_power_of_two() || size % align != 0 {
            return Err("an alignment is a power of two that divides the size");
        }
        let mut names = BTreeSet::new();
        let mut end = 0_u64;
        for field in &fields {
            if !is_name(&field.name, b"_") {
                return Err("a name of a field is 1 to 64 of A-Z a-z 0-9 _");
            }
            if !names.insert(&field.name) {
                return Err("two fields have the same name");
            }
            if field.offset != end {
                return Err("a field begins where the one before it ends, the first at 0");
            }
            if field.schema.align > align || field.offset % field.schema.align != 0 {
                return Err("a field is not aligned");
            }
            end = end
                .checked_add(field.schema.size)
                .ok_or("the fields are larger than any memory")?;
        }
        if end != size {
            return Err("the last field does not end where the struct does");
        }
        let schema = Schema {
            size,
            align,
            kind: Kind::Struct(name.to_owned(), fields),
        };
        if schema.structs() > MAX_STRUCTS {
            return Err("more than 16 structs within each other");
        }
        Ok(schema)
    }

    /// How many structs lie within each other here.
    fn structs(&self) -> usize {
        match &self.innermost().kind {
            Kind::Struct(_, fields) => {
                1 + fields
                    .iter()
                    .map(|field| field.schema.structs())
                    .max()
                    .unwrap_or(0)
            }
            _ => 0,
        }
    }

    fn with_few_wrappers(self) -> Schema {
        let mut wrappers = 0;
        let mut schema = &self;
        while let Kind::Cell(inner) | Kind::Array(inner, _) = &schema.kind {
            wrappers += 1;
            schema = inner;
        }
        wrappers += usize::from(matches!(schema.kind, Kind::Atomic(_)));
        assert!(
            wrappers <= MAX_WRAPPERS,
            "the layout of {self}: more than 8 arrays and cells around each other"
        );
        self
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Primitive(primitive) => f.write_str(primitive.name()),
            Kind::Atomic(primitive) => write!(f, "atomic<{}>", primitive.name()),
            Kind::Cell(inner) => write!(f, "cell<{inner}>"),
            Kind::Array(inner, count) => write!(f, "[{inner}; {count}]"),
            Kind::Struct(name, _) => write!(f, "struct {name}"),
        }
    }
}

/// A number of fixed width, in the byte order of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Primitive {
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
}

impl Primitive {
    const ALL: [Primitive; 10] = {
        use Primitive::*;
        [U8, U16, U32, U64, I8, I16, I32, I64, F32, F64]
    };

    /// The name in Rust and in the text: `u64`.
    pub fn name(self) -> &'static str {
        match self {
            Primitive::U8 => "u8",
            Primitive::U16 => "u16",
            Primitive::U32 => "u32",
            Primitive::U64 => "u64",
            Primitive::I8 => "i8",
            Primitive::I16 => "i16",
            Primitive::I32 => "i32",
            Primitive::I64 => "i64",
            Primitive::F32 => "f32",
            Primitive::F64 => "f64",
        }
    }

    /// The size in bytes: 1, 2, 4 or 8.
    pub fn size(self) -> u64 {
        match self {
            Primitive::U8 | Primitive::I8 => 1,
            Primitive::U16 | Primitive::I16 => 2,
            Primitive::U32 | Primitive::I32 | Primitive::F32 => 4,
            Primitive::U64 | Primitive::I64 | Primitive::F64 => 8,
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Primitive> {
        Primitive::ALL
            .into_iter()
            .find(|primitive| primitive.name() == name)
    }

    pub(super) fn is_integer(self) -> bool {
        !matches!(self, Primitive::F32 | Primitive::F64)
    }
}

fn is_name(name: &str, beside_letters_and_digits: &[u8]) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || beside_letters_and_digits.contains(&byte))
}

fn write_fields(text: &mut String, schema: &Schema, depth: usize) {
    for Field {
        name,
        offset,
        schema,
    } in schema.fields()
    {
        let Schema { size, align, .. } = schema;
        let indent = 2 * depth;
        writeln!(
            text,
            "{:indent$}{name}: {schema} at {offset} size {size} align {align}",
            ""
        )
        .expect("a String takes all that is written to it");
        write_fields(text, schema, depth + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_what_python_computes() {
        // Catches another hash, another digest length (which changes every byte) or another byte order.
        // python3 -c 'import hashlib; print(hashlib.blake2b(b"u64 size 8 align 8\n", digest_size=8).hexdigest())'
        assert_eq!(u64::schema().text(), "u64 size 8 align 8\n");
        assert_eq!(
            u64::schema().fingerprint().to_le_bytes(),
            [0xeb, 0x10, 0x0b, 0x6d, 0x40, 0x01, 0x99, 0x89]
        );
    }

    #[test]
    fn a_struct_that_breaks_a_rule_is_refused() {
        // Catches a constructor that lets through what the parser or a reader of the text would stumble on.
        let field = |name: &str, offset| Field::new::<u32>(name, offset);
        let build = |name: &str, size, align, fields| {
            Schema::checked_struct(name, size, align, fields).map(|_| ())
        };
        assert_eq!(build("S", 8, 4, vec![field("a", 0), field("b", 4)]), Ok(()));
        assert!(
            build("S T", 4, 4, vec![field("a", 0)]).is_err(),
            "a space in a name"
        );
        assert!(
            build("", 4, 4, vec![field("a", 0)]).is_err(),
            "an empty name"
        );
        assert!(
            build("S", 4, 4, vec![field("a.b", 0)]).is_err(),
            "a dot in a field's name"
        );
        assert!(build("S", 0, 1, vec![]).is_err(), "no fields");
        assert!(
            build("S", 8, 4, vec![field("a", 0), field("a", 4)]).is_err(),
            "one name twice"
        );
        assert!(
            build("S", 12, 4, vec![field("a", 0), field("b", 8)]).is_err(),
            "padding between"
        );
        assert!(
            build("S", 8, 4, vec![field("a", 0), field("b", 0)]).is_err(),
            "overlap"
        );
        assert!(
            build("S", 8, 8, vec![field("a", 0)]).is_err(),
            "padding behind"
        );
        assert!(
            build("S", 4, 2, vec![field("a", 0)]).is_err(),
            "a field aligned to more than its struct"
        );
        assert!(
            build("S", 4, 3, vec![field("a", 0)]).is_err(),
            "an odd alignment"
        );
        assert!(
            build("S", 4, 0, vec![field("a", 0)]).is_err(),
            "no alignment"
        );
    }
}

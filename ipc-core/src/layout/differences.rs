//! In what a schema that was found differs from the one that was expected, in words.

use super::schema::Kind;
use super::{Field, Schema};

impl Schema {
    /// One line for each difference of `found` from this schema, the expected one; none if they are equal.
    ///
    /// Offsets count from the start of the enclosing struct, as in the text. The elements of an array are alike, so a
    /// difference in them is told once, of element 0:
    ///
    /// ```text
    /// price: expected u64 at 8, found u32 at 8
    /// header.seq: missing, expected u64 at 0
    /// bids[0].qty: unexpected u16 at 20
    /// ```
    pub fn differences(&self, found: &Schema) -> Vec<String> {
        let mut lines = Vec::new();
        let mut compare = |what: &str, expected: String, found: String| {
            if expected != found {
                lines.push(format!("{what}: expected {expected}, found {found}"));
            }
        };
        compare("type", self.to_string(), found.to_string());
        compare("size", self.size.to_string(), found.size.to_string());
        compare("align", self.align.to_string(), found.align.to_string());
        compare_fields(
            &mut lines,
            &fields_path("", self),
            self.fields(),
            found.fields(),
        );
        lines
    }
}

/// What stands before the name of a field of `schema`, which itself is at `path`: `header.`, `bids[0].` or nothing.
pub(super) fn fields_path(path: &str, schema: &Schema) -> String {
    match &schema.kind {
        Kind::Array(inner, _) => fields_path(
            &format!("{}[0]", if path.is_empty() { "value" } else { path }),
            inner,
        ),
        Kind::Cell(inner) => fields_path(path, inner),
        _ if path.is_empty() => String::new(),
        _ => format!("{path}."),
    }
}

fn compare_fields(lines: &mut Vec<String>, path: &str, expected: &[Field], found: &[Field]) {
    let by_name = |fields: &[Field], name: &str| fields.iter().position(|field| field.name == name);
    for Field {
        name,
        offset,
        schema,
    } in expected
    {
        let Some(other) = by_name(found, name).map(|i| &found[i]) else {
            lines.push(format!(
                "{path}{name}: missing, expected {schema} at {offset}"
            ));
            continue;
        };
        let expected_words = format!("{schema} at {offset}");
        let found_words = format!("{} at {}", other.schema, other.offset);
        if expected_words != found_words {
            lines.push(format!(
                "{path}{name}: expected {expected_words}, found {found_words}"
            ));
        } else if schema.align != other.schema.align {
            lines.push(format!(
                "{path}{name}: expected align {}, found align {}",
                schema.align, other.schema.align
            ));
        }
        let both_structs = !schema.fields().is_empty() && !other.schema.fields().is_empty();
        if both_structs {
            let path = fields_path(&format!("{path}{name}"), schema);
            compare_fields(lines, &path, schema.fields(), other.schema.fields());
        }
    }
    for Field {
        name,
        offset,
        schema,
    } in found
    {
        if by_name(expected, name).is_none() {
            lines.push(format!("{path}{name}: unexpected {schema} at {offset}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a schema of which the lines are given without their newlines.
    fn schema(lines: &[&str]) -> Schema {
        Schema::parse(&(lines.join("\n") + "\n")).unwrap()
    }

    #[track_caller]
    fn check(expected: &[&str], found: &[&str], differences: &[&str]) {
        let (expected, found) = (schema(expected), schema(found));
        assert_eq!(expected.differences(&found), differences);
        assert!(expected.differences(&expected).is_empty());
        assert!(found.differences(&found).is_empty());
    }

    #[test]
    fn each_field_that_differs_has_a_line() {
        // Catches a kind of difference that is not told, or told of the wrong field.
        check(
            &[
                "struct Tick size 24 align 8",
                "  seq: u64 at 0 size 8 align 8",
                "  price: u64 at 8 size 8 align 8",
                "  qty: u32 at 16 size 4 align 4",
                "  side: u32 at 20 size 4 align 4",
            ],
            &[
                "struct Tock size 16 align 8",
                "  seq: u64 at 0 size 8 align 8",
                "  price: u32 at 8 size 4 align 4",
                "  extra: u16 at 12 size 2 align 2",
                "  qty: u16 at 14 size 2 align 2",
            ],
            &[
                "type: expected struct Tick, found struct Tock",
                "size: expected 24, found 16",
                "price: expected u64 at 8, found u32 at 8",
                "qty: expected u32 at 16, found u16 at 14",
                "side: missing, expected u32 at 20",
                "extra: unexpected u16 at 12",
            ],
        );
    }

    #[test]
    fn fields_within_structs_and_arrays_have_paths() {
        // Catches a difference deep inside that is not found, or whose path leads elsewhere.
        check(
            &[
                "struct Book size 20 align 4",
                "  header: struct Header at 0 size 4 align 4",
                "    seq: u32 at 0 size 4 align 4",
                "  bids: [struct Level; 2] at 4 size 16 align 4",
                "    price: u32 at 0 size 4 align 4",
                "    qty: cell<u32> at 4 size 4 align 4",
            ],
            &[
                "struct Book size 20 align 4",
                "  header: struct Header at 0 size 4 align 4",
                "    sequence: u32 at 0 size 4 align 4",
                "  bids: [struct Level; 2] at 4 size 16 align 4",
                "    price: f32 at 0 size 4 align 4",
                "    qty: atomic<u32> at 4 size 4 align 4",
            ],
            &[
                "header.seq: missing, expected u32 at 0",
                "header.sequence: unexpected u32 at 0",
                "bids[0].price: expected u32 at 0, found f32 at 0",
                "bids[0].qty: expected cell<u32> at 4, found atomic<u32> at 4",
            ],
        );
    }

    #[test]
    fn an_array_of_another_length_or_a_number_of_another_type_differs() {
        // Catches types without a name of their own falling through.
        check(
            &["[u8; 4] size 4 align 1"],
            &["u32 size 4 align 4"],
            &[
                "type: expected [u8; 4], found u32",
                "align: expected 1, found 4",
            ],
        );
        check(
            &[
                "[struct A; 2] size 2 align 1",
                "  a: u8 at 0 size 1 align 1",
            ],
            &[
                "[struct A; 2] size 2 align 1",
                "  a: i8 at 0 size 1 align 1",
            ],
            &["value[0].a: expected u8 at 0, found i8 at 0"],
        );
    }

    #[test]
    fn another_alignment_alone_is_told() {
        // Catches two schemas that differ in text, and so in fingerprint, without a line that says in what.
        check(
            &[
                "struct A size 64 align 64",
                "  a: [u64; 8] at 0 size 64 align 8",
            ],
            &[
                "struct A size 64 align 8",
                "  a: [u64; 8] at 0 size 64 align 8",
            ],
            &["align: expected 64, found 8"],
        );
        check(
            &["struct A size 8 align 8", "  a: u64 at 0 size 8 align 8"],
            &["struct A size 8 align 8", "  a: u64 at 0 size 8 align 4"],
            &["a: expected align 8, found align 4"],
        );
    }
}

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

//! The values in an object, from the layout that the segment carries, without the program that wrote them.

use ipc_core::layout::Schema;
use serde_json::Value;

use crate::show;

/// The most values that are shown of one element.
pub(crate) const MOST: usize = 1024;

/// The schema text line by line, fit for a terminal.
pub(crate) fn lines(schema: &str) -> Vec<String> {
    schema.lines().map(show::plain).collect()
}

/// How to read the bytes of one element. `None` where there is no layout, or none that can be understood.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    size: usize,
    leaves: Vec<ipc_core::layout::Leaf>,
}

impl Decoder {
    pub(crate) fn new(schema: &str) -> Option<Self> {
        let schema = Schema::parse(schema).ok()?;
        Some(Self {
            size: usize::try_from(schema.size()).ok()?,
            leaves: schema.leaves(MOST),
        })
    }

    /// Bytes of an element.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The fields with their values as text.
    pub(crate) fn fields<'a>(
        &'a self,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = (String, String)> + 'a {
        self.leaves.iter().map(|leaf| {
            let range = leaf.range();
            let range = range.start as usize..range.end as usize;
            let value = leaf.format(bytes.get(range).unwrap_or_default());
            (show::plain(leaf.path()), show::plain(&value))
        })
    }

    /// All on one line: `seq=1 price=2.5`.
    pub(crate) fn line(&self, bytes: &[u8]) -> String {
        let fields = self.fields(bytes);
        let texts: Vec<String> = fields
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        texts.join(" ")
    }

    /// An object with a member for each field, its value as text.
    pub(crate) fn json(&self, bytes: &[u8]) -> Value {
        let fields = self.fields(bytes);
        Value::Object(fields.map(|(name, value)| (name, value.into())).collect())
    }
}

//! The message of the kill tests: a torn one is told from a whole one.

use bytemuck::{AnyBitPattern, NoUninit};
use ipc_core::Layout;

/// A number, said three times in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Layout, NoUninit, AnyBitPattern)]
#[repr(C)]
pub struct Parcel {
    number: u64,
    inverted: u64,
    scaled: u64,
}

impl Parcel {
    /// The message of that number.
    pub fn new(number: u64) -> Self {
        Self {
            number,
            inverted: !number,
            scaled: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// The number, if the message is whole.
    pub fn open(self) -> anyhow::Result<u64> {
        anyhow::ensure!(self == Self::new(self.number), "a torn message: {self:x?}");
        Ok(self.number)
    }
}

/// Numbers as they are shown in outcomes.
pub fn show(numbers: &[u64]) -> String {
    let words: Vec<String> = numbers.iter().map(u64::to_string).collect();
    if words.is_empty() {
        "nothing".into()
    } else {
        words.join(" ")
    }
}

//! Unique ids.

use super::Context;
use crate::race::Race;

pub(super) fn races<'a>(_: &'a Context<'a>) -> Vec<Race<'a>> {
    Vec::new()
}

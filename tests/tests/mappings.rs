//! Mappings through the public interface, and what the kernel says of them.
//!
//! What would end the process is done by `mapping-probe`, which is run as the user who runs the tests and, where that is
//! root, as the user nobody (65534) too, from a copy that he may read.

#[path = "mappings/common.rs"]
mod common;
#[path = "mappings/faults.rs"]
mod faults;
#[path = "mappings/files.rs"]
mod files;
#[path = "mappings/kinds.rs"]
mod kinds;
#[path = "mappings/limits.rs"]
mod limits;
#[path = "mappings/page.rs"]
mod page;
#[path = "mappings/pieces.rs"]
mod pieces;
#[path = "mappings/ranges.rs"]
mod ranges;
#[path = "mappings/resizing.rs"]
mod resizing;
#[path = "mappings/slices.rs"]
mod slices;

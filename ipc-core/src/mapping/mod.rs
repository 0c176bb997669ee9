//! Mappings: one virtual memory area each, and all that the kernel can do with it.

/// How to map.
#[derive(Debug, Default)]
pub struct MapOptions {}

/// A mapping.
#[derive(Debug)]
pub struct Mapping {}

//! The layout of a shared type: its schema and fingerprint.

/// A type whose layout in shared memory is known.
pub trait Layout {}

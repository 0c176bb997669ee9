//! Which types may be used by reference while other processes write to them.
//!
//! # Safety
//!
//! Each implementation here is for a type that consists of atomics alone.
#![allow(unsafe_code)]

use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
};

use super::Layout;

/// A type made of atomics and shared cells alone, of which a `&T` may point into shared memory.
///
/// Derived by `#[derive(Layout, Shared)]`, which checks each field. Padding is spelled with atomics too:
/// `_pad: [AtomicU8; N]`.
///
/// # Safety
///
/// 1. Every byte of the type lies within an atomic or within a cell that allows other threads and processes to change it at
///    any time, by whatever means, so that a `&Self` asserts nothing about the bytes.
/// 2. Every bit pattern is a valid value, all zeros among them.
///
/// `Sync` follows from the first: another process may do whatever another thread may.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used by reference in shared memory",
    label = "a peer may change this at any time",
    note = "use atomics (`AtomicU64` in place of `u64`), shared cells, arrays of these, and structs of these with `#[derive(Layout, Shared)]`",
    note = "padding is spelled `_pad: [AtomicU8; N]`"
)]
pub unsafe trait Shared: Layout + Sync {}

macro_rules! shared {
    ($($atomic:ty)*) => {$(
        // SAFETY: (1) it is an atomic; (2) every bit pattern is an integer.
        unsafe impl Shared for $atomic {}
    )*};
}

shared!(AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicI8 AtomicI16 AtomicI32 AtomicI64);

// SAFETY: an array has no bytes but those of its elements, for which `T` vouches in both clauses.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {}

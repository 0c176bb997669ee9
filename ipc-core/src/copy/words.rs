//! Copies by relaxed atomic words, for the architectures that have no assembly of ours.
//!
//! The shared side is accessed in aligned words of 8 bytes, and byte by byte before the first and after the last of them.
//! At run time this takes about twice as long as a plain copy from 256 bytes upwards.
//!
//! # Safety
//!
//! As in the parent: the caller vouches for the raw pointer over the whole length of the slice.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

const WORD: usize = size_of::<u64>();

/// A store and a load of one word: atomic where it lies on its natural alignment, else byte by byte.
macro_rules! word {
    ($len:literal, $word:ty, $atomic:ty, $store:ident, $load:ident) => {
        #[doc = concat!("Stores ", $len, " bytes at `to`, for which the caller vouches.")]
        #[inline(always)]
        pub(super) unsafe fn $store(to: *mut u8, bytes: [u8; $len]) {
            if to.cast::<$atomic>().is_aligned() {
                // SAFETY: aligned, as just seen, and valid, says the caller.
                let word = unsafe { <$atomic>::from_ptr(to.cast()) };
                word.store(<$word>::from_ne_bytes(bytes), Relaxed);
            } else {
                // SAFETY: the same contract.
                unsafe { store(to, &bytes) }
            }
        }

        #[doc = concat!("Loads ", $len, " bytes from `from`, for which the caller vouches.")]
        #[inline(always)]
        pub(super) unsafe fn $load(from: *const u8) -> [u8; $len] {
            if from.cast::<$atomic>().is_aligned() {
                // SAFETY: aligned, as just seen, and valid, says the caller; nothing is written through it.
                let word = unsafe { <$atomic>::from_ptr(from.cast_mut().cast()) };
                word.load(Relaxed).to_ne_bytes()
            } else {
                let mut bytes = [0; $len];
                // SAFETY: the same contract.
                unsafe { load(from, &mut bytes) };
                bytes
            }
        }
    };
}

word!(1, u8, AtomicU8, store_1, load_1);
word!(2, u16, AtomicU16, store_2, load_2);
word!(4, u32, AtomicU32, store_4, load_4);
word!(8, u64, AtomicU64, store_8, load_8);

/// Loads 16 bytes from `from`, for which the caller vouches.
#[inline(always)]
pub(super) unsafe fn load_16(from: *const u8) -> [u8; 16] {
    // SAFETY: the caller vouches for 16 bytes, of which these are the first 8.
    let low = unsafe { load_8(from) };
    // SAFETY: as above; these are the last 8.
    let high = unsafe { load_8(from.wrapping_add(8)) };
    bytemuck::cast([low, high])
}

/// Copies `from` to the shared address `to`.
///
/// # Safety
///
/// `to` must be valid for writes of `from.len()` bytes.
pub(super) unsafe fn store(to: *mut u8, from: &[u8]) {
    let (head, words) = split(to, from.len());
    let mut at = 0;
    while at < from.len() {
        // SAFETY: `at < from.len()`, for which the caller vouches.
        let shared = unsafe { to.add(at) };
        if at >= head && at < head + words {
            let mut word = [0; WORD];
            word.copy_from_slice(&from[at..at + WORD]);
            // SAFETY: `at` is on a word from the head on, and a whole word lies before the tail.
            let target = unsafe { AtomicU64::from_ptr(shared.cast()) };
            target.store(u64::from_ne_bytes(word), Relaxed);
            at += WORD;
        } else {
            // SAFETY: within the range, and a byte needs no alignment.
            let target = unsafe { AtomicU8::from_ptr(shared) };
            target.store(from[at], Relaxed);
            at += 1;
        }
    }
}

/// Copies from the shared address `from` into `to`.
///
/// # Safety
///
/// `from` must be valid for reads of `to.len()` bytes.
pub(super) unsafe fn load(from: *const u8, to: &mut [u8]) {
    let (head, words) = split(from, to.len());
    let mut at = 0;
    while at < to.len() {
        // SAFETY: `at < to.len()`, for which the caller vouches.
        let shared = unsafe { from.add(at) }.cast_mut();
        if at >= head && at < head + words {
            // SAFETY: `at` is on a word from the head on, and a whole word lies before the tail.
            let source = unsafe { AtomicU64::from_ptr(shared.cast()) };
            to[at..at + WORD].copy_from_slice(&source.load(Relaxed).to_ne_bytes());
            at += WORD;
        } else {
            // SAFETY: within the range, and a byte needs no alignment.
            let source = unsafe { AtomicU8::from_ptr(shared) };
            to[at] = source.load(Relaxed);
            at += 1;
        }
    }
}

/// How many bytes lie before the first aligned word of `len` bytes at `shared`, and how many lie in whole words after it.
fn split(shared: *const u8, len: usize) -> (usize, usize) {
    let head = (shared.addr().wrapping_neg() % WORD).min(len);
    (head, (len - head) / WORD * WORD)
}

//! Copies between private memory and memory that another process may change at any moment.
//!
//! Rust has no memory copy that may race. So these copies are made of what may: on x86-64 of inline assembly, whose
//! accesses lie outside the language's memory model, elsewhere of relaxed atomic words. A length of 1, 2, 4, 8 or 16 bytes
//! that is known to the compiler becomes one move (two for 16) between a register and the shared address. What a copy delivers while a peer
//! writes the same bytes is any mixture of old and new bytes: the caller validates the private copy, or knows from a
//! protocol (an Acquire load before, a Release store after) that nobody writes.
//!
//! The copies order nothing and never fault on a mapping whose file was cut short (see `fault`). They avoid `rep movsb`,
//! and with it the C library's `memcpy`, where the destination lies just above the source modulo 4096: there it is some
//! twenty times slower than a loop, and a record header of 8 or 16 bytes makes just that of a page-aligned buffer.
//!
//! # Safety
//!
//! Every function copies between one side that is private (a Rust slice, and so valid) and one raw pointer, for which the
//! caller vouches: valid for the whole length, and not overlapping the slice. Neither side needs any alignment.
#![allow(unsafe_code)]

#[cfg(any(test, not(target_arch = "x86_64")))]
mod words;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(not(target_arch = "x86_64"))]
use words as arch;
#[cfg(target_arch = "x86_64")]
use x86_64 as arch;

/// Copies `from` to the shared address `to`.
///
/// # Safety
///
/// `to` must be valid for writes of `from.len()` bytes, none of which belong to `from`.
#[inline(always)]
pub(crate) unsafe fn copy_in(to: *mut u8, from: &[u8]) {
    if cfg!(any(miri, ipc_tsan, loom)) {
        // A checker of races must see the bytes move.
        // SAFETY: the caller vouches for `to` and that the two do not overlap; `from` is a slice.
        return unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
    }
    match from.len() {
        // SAFETY: the caller vouches for `to` over the length of `from`, which has just been matched.
        1 => unsafe { arch::store_1(to, word(from)) },
        // SAFETY: as for 1.
        2 => unsafe { arch::store_2(to, word(from)) },
        // SAFETY: as for 1.
        4 => unsafe { arch::store_4(to, word(from)) },
        // SAFETY: as for 1.
        8 => unsafe { arch::store_8(to, word(from)) },
        16 => {
            // SAFETY: as for 1; these are the first 8 of the 16 bytes.
            unsafe { arch::store_8(to, word(&from[..8])) };
            // SAFETY: as for 1; these are the last 8 of the 16 bytes.
            unsafe { arch::store_8(to.wrapping_add(8), word(&from[8..])) };
        }
        // SAFETY: the caller vouches for `to` and that the two do not overlap.
        _ => unsafe { arch::store(to, from) },
    }
}

/// Copies from the shared address `from` into `to`.
///
/// # Safety
///
/// `from` must be valid for reads of `to.len()` bytes, none of which belong to `to`.
#[inline(always)]
pub(crate) unsafe fn copy_out(from: *const u8, to: &mut [u8]) {
    if cfg!(any(miri, ipc_tsan, loom)) {
        // SAFETY: the caller vouches for `from` and that the two do not overlap; `to` is a slice.
        return unsafe { from.copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
    }
    match to.len() {
        // SAFETY: the caller vouches for `from` over the length of `to`, which has just been matched.
        1 => to.copy_from_slice(&unsafe { arch::load_1(from) }),
        // SAFETY: as for 1.
        2 => to.copy_from_slice(&unsafe { arch::load_2(from) }),
        // SAFETY: as for 1.
        4 => to.copy_from_slice(&unsafe { arch::load_4(from) }),
        // SAFETY: as for 1.
        8 => to.copy_from_slice(&unsafe { arch::load_8(from) }),
        16 => {
            // SAFETY: as for 1; these are the first 8 of the 16 bytes.
            to[..8].copy_from_slice(&unsafe { arch::load_8(from) });
            // SAFETY: as for 1; these are the last 8 of the 16 bytes.
            to[8..].copy_from_slice(&unsafe { arch::load_8(from.wrapping_add(8)) });
        }
        // SAFETY: the caller vouches for `from` and that the two do not overlap.
        _ => unsafe { arch::load(from, to) },
    }
}

/// The longest message that goes word by word.
const WORDS: usize = 64;

/// [`copy_in`], for a length that is known to the compiler: up to [`WORDS`] a number of words goes word by word, each from
/// the register that it is in. A copy by wider registers would first have to be made in memory, and would wait for that.
///
/// # Safety
///
/// That of [`copy_in`].
#[inline(always)]
pub(crate) unsafe fn words_in(to: *mut u8, from: &[u8]) {
    if from.len() > WORDS || from.len() % 8 != 0 || cfg!(any(miri, ipc_tsan, loom)) {
        // SAFETY: the same contract.
        return unsafe { copy_in(to, from) };
    }
    for (at, from) in from.chunks_exact(8).enumerate() {
        // SAFETY: the caller vouches for `to` over the length of `from`, of which these are 8 bytes.
        unsafe { arch::store_8(to.wrapping_add(8 * at), word(from)) }
    }
}

/// [`copy_out`], for a length that is known to the compiler: two words at a time. Whoever stores the message as a whole
/// next, by any registers, and then looks at a part of it, finds a store that holds this part; of words stored one by
/// one, he would have to wait for both.
///
/// # Safety
///
/// That of [`copy_out`].
#[inline(always)]
pub(crate) unsafe fn words_out(from: *const u8, to: &mut [u8]) {
    if to.len() > WORDS || to.len() % 8 != 0 || cfg!(any(miri, ipc_tsan, loom)) {
        // SAFETY: the same contract.
        return unsafe { copy_out(from, to) };
    }
    let (wide, last) = to.split_at_mut(to.len() & !15);
    for (at, to) in wide.chunks_exact_mut(16).enumerate() {
        // SAFETY: the caller vouches for `from` over the length of `to`, of which these are 16 bytes.
        to.copy_from_slice(&unsafe { arch::load_16(from.wrapping_add(16 * at)) });
    }
    if last.len() == 8 {
        // SAFETY: as above; these are the last 8 bytes.
        last.copy_from_slice(&unsafe { arch::load_8(from.wrapping_add(wide.len())) });
    }
}

/// The bytes of a slice whose length has just been matched.
#[inline(always)]
fn word<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the length was matched")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: usize = 600;
    const ALIGNMENTS: usize = 64;
    /// Untouched bytes before and after, which a copy that strays would change.
    const CANARY: usize = 128;
    const ARENA: usize = CANARY + ALIGNMENTS + LENGTHS + CANARY;

    #[repr(align(64))]
    struct Arena([u8; ARENA]);

    /// Runs `copy` for every length at every alignment of `to` and `from`, and looks at every byte around.
    fn exhaust(copy: impl Fn(&mut [u8], &[u8])) {
        let mut source = Arena([0; ARENA]);
        for (i, byte) in source.0.iter_mut().enumerate() {
            // No two bytes within reach are equal, and none is the canary's.
            *byte = (i % 251) as u8;
        }
        let mut target = Arena([0xFF; ARENA]);
        let mut expected = Arena([0xFF; ARENA]);
        for len in 0..LENGTHS {
            for to in CANARY..CANARY + ALIGNMENTS {
                for from in CANARY..CANARY + ALIGNMENTS {
                    copy(&mut target.0[to..to + len], &source.0[from..from + len]);
                    expected.0[to..to + len].copy_from_slice(&source.0[from..from + len]);
                    assert!(target.0 == expected.0, "{len} bytes from +{from} to +{to}");
                    target.0[to..to + len].fill(0xFF);
                    expected.0[to..to + len].fill(0xFF);
                }
            }
        }
    }

    #[test]
    fn copy_in_is_exact() {
        // Catches a wrong size class, a missing tail, and a store before or after the target.
        exhaust(|to, from| {
            // SAFETY: two slices of one length, which the borrows keep apart.
            unsafe { copy_in(to.as_mut_ptr(), from) }
        });
        exhaust(|to, from| {
            // SAFETY: as above.
            unsafe { words_in(to.as_mut_ptr(), from) }
        });
    }

    #[test]
    fn copy_out_is_exact() {
        // Catches the same in the other direction.
        exhaust(|to, from| {
            // SAFETY: two slices of one length, which the borrows keep apart.
            unsafe { copy_out(from.as_ptr(), to) }
        });
        exhaust(|to, from| {
            // SAFETY: as above.
            unsafe { words_out(from.as_ptr(), to) }
        });
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_paths_of_other_processors_are_exact() {
        // Catches a fault in a class that this processor would never take.
        use x86_64::*;
        let avx = is_x86_feature_detected!("avx");
        exhaust(|to, from| {
            let (to, from, len) = (to.as_mut_ptr(), from.as_ptr(), from.len());
            match len {
                // SAFETY: (as for the rest) two slices of one length, which the borrows keep apart.
                0..=64 => unsafe { to.copy_from_nonoverlapping(from, len) },
                // SAFETY: as above, and the processor has AVX.
                65..=128 if avx => unsafe { ends_2_of_256(to, from, len) },
                // SAFETY: as above, and the processor has AVX.
                129..=256 if avx => unsafe { ends_4_of_256(to, from, len) },
                // SAFETY: as above, and the processor has AVX.
                257..=400 if avx => unsafe { stream_256(to, from, len) },
                // SAFETY: as above, and the processor has AVX.
                _ if avx => unsafe { loop_256(to, from, len) },
                // SAFETY: as above, and more than 64 bytes.
                _ => unsafe { loop_sse(to, from, len) },
            }
        });
        exhaust(|to, from| {
            let (to, from, len) = (to.as_mut_ptr(), from.as_ptr(), from.len());
            match len {
                // SAFETY: as above.
                0..=64 => unsafe { to.copy_from_nonoverlapping(from, len) },
                // SAFETY: as above, and more than 64 bytes.
                _ => unsafe { loop_sse(to, from, len) },
            }
        });
    }

    #[test]
    fn the_words_of_other_architectures_are_exact() {
        // Catches a fault in what this machine does not use.
        exhaust(|to, from| match from.len() {
            // SAFETY: (as for the rest) two slices of one length, which the borrows keep apart.
            1 => unsafe { words::store_1(to.as_mut_ptr(), word(from)) },
            // SAFETY: as above.
            2 => unsafe { words::store_2(to.as_mut_ptr(), word(from)) },
            // SAFETY: as above.
            4 => unsafe { words::store_4(to.as_mut_ptr(), word(from)) },
            // SAFETY: as above.
            8 => unsafe { words::store_8(to.as_mut_ptr(), word(from)) },
            // SAFETY: as above.
            _ => unsafe { words::store(to.as_mut_ptr(), from) },
        });
        exhaust(|to, from| match to.len() {
            // SAFETY: (as for the rest) two slices of one length, which the borrows keep apart.
            1 => to.copy_from_slice(&unsafe { words::load_1(from.as_ptr()) }),
            // SAFETY: as above.
            2 => to.copy_from_slice(&unsafe { words::load_2(from.as_ptr()) }),
            // SAFETY: as above.
            4 => to.copy_from_slice(&unsafe { words::load_4(from.as_ptr()) }),
            // SAFETY: as above.
            8 => to.copy_from_slice(&unsafe { words::load_8(from.as_ptr()) }),
            // SAFETY: as above.
            16 => to.copy_from_slice(&unsafe { words::load_16(from.as_ptr()) }),
            // SAFETY: as above.
            _ => unsafe { words::load(from.as_ptr(), to) },
        });
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn large_copies_are_exact() {
        // Catches a fault in what only long copies do: aligning the destination, and storing past the caches.
        for len in [4095, 4096, 65_537, x86_64::STREAM, x86_64::STREAM + 4097] {
            let from: Vec<u8> = (0..len + 64).map(|i| (i % 253) as u8).collect();
            for (skew_from, skew_to) in [(0, 0), (0, 8), (16, 0), (1, 31), (63, 33)] {
                let mut to = vec![0xFF; len + 128];
                // SAFETY: both ranges lie in their vectors.
                unsafe {
                    copy_in(
                        to[skew_to..].as_mut_ptr(),
                        &from[skew_from..skew_from + len],
                    )
                };
                assert!(to[skew_to..skew_to + len] == from[skew_from..skew_from + len]);
                assert!(
                    to[..skew_to]
                        .iter()
                        .chain(&to[skew_to + len..])
                        .all(|b| *b == 0xFF)
                );
            }
        }
    }
}

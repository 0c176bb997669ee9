//! Copies by inline assembly, in classes of size.
//!
//! Up to 64 bytes: loads of the first and the last bytes, overlapping where the length lies between two powers, then the
//! stores. Above: a loop of four of the widest registers (AVX-512, AVX, SSE), whose last round overlaps the one before. From [`STREAM`]
//! bytes on the stores go past the caches, since such a copy would only push everything else out of them.
//!
//! # Safety
//!
//! Each block reads `len` bytes from `from` and writes `len` bytes to `to`, no byte else, in the class for which its
//! function is called. The caller vouches for both ranges and that they do not overlap. No block touches the stack, and
//! each names every register that it changes.
#![allow(unsafe_code)]

use core::{
    arch::{asm, x86_64::__m128i},
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};
use std::arch::is_x86_feature_detected;

/// From this length on a copy bypasses the caches.
pub(super) const STREAM: usize = 32 << 20;

/// From this length on, beyond the first cache, `rep movsb` is up to 1.7 times as fast as any loop on processors with
/// AVX-512: it need not read the lines that it overwrites.
const REP: usize = 24 << 10;

/// A store and a load of one word, whole in one instruction where it does not straddle a cache line.
macro_rules! word {
    ($len:literal, $word:ty, $store:ident, $load:ident, $mov_out:literal, $mov_in:literal, $class:ident) => {
        #[doc = concat!("Stores ", $len, " bytes at `to`, for which the caller vouches.")]
        #[inline(always)]
        pub(super) unsafe fn $store(to: *mut u8, bytes: [u8; $len]) {
            let word = <$word>::from_ne_bytes(bytes);
            // SAFETY: it writes the bytes at `to` that the caller vouches for, and nothing else.
            unsafe { asm!($mov_out, to = in(reg) to, word = in($class) word, options(nostack, preserves_flags)) };
        }

        #[doc = concat!("Loads ", $len, " bytes from `from`, for which the caller vouches.")]
        #[inline(always)]
        pub(super) unsafe fn $load(from: *const u8) -> [u8; $len] {
            let word: $word;
            // SAFETY: it reads the bytes at `from` that the caller vouches for, and writes a register.
            unsafe {
                asm!($mov_in, from = in(reg) from, word = lateout($class) word,
                    options(nostack, preserves_flags, readonly));
            }
            word.to_ne_bytes()
        }
    };
}

word!(
    1,
    u8,
    store_1,
    load_1,
    "mov byte ptr [{to}], {word}",
    "mov {word}, byte ptr [{from}]",
    reg_byte
);
word!(
    2,
    u16,
    store_2,
    load_2,
    "mov word ptr [{to}], {word:x}",
    "movzx {word:e}, word ptr [{from}]",
    reg
);
word!(
    4,
    u32,
    store_4,
    load_4,
    "mov dword ptr [{to}], {word:e}",
    "mov {word:e}, dword ptr [{from}]",
    reg
);
word!(
    8,
    u64,
    store_8,
    load_8,
    "mov qword ptr [{to}], {word}",
    "mov {word}, qword ptr [{from}]",
    reg
);

/// Loads 16 bytes from `from`, for which the caller vouches, through one register.
#[inline(always)]
pub(super) unsafe fn load_16(from: *const u8) -> [u8; 16] {
    let word: __m128i;
    // SAFETY: it reads the bytes at `from` that the caller vouches for, and writes a register.
    unsafe {
        asm!("movdqu {word}, xmmword ptr [{from}]", from = in(reg) from, word = lateout(xmm_reg) word,
            options(nostack, preserves_flags, readonly));
    }
    bytemuck::cast(word)
}

/// Copies `from` to `to`, for which the caller vouches over the whole length.
#[inline(always)]
pub(super) unsafe fn store(to: *mut u8, from: &[u8]) {
    // SAFETY: the caller vouches for `to` and that the two do not overlap; `from` is a slice.
    unsafe { copy(to, from.as_ptr(), from.len()) }
}

/// Copies from `from`, for which the caller vouches over the whole length, into `to`.
#[inline(always)]
pub(super) unsafe fn load(from: *const u8, to: &mut [u8]) {
    // SAFETY: the caller vouches for `from` and that the two do not overlap; `to` is a slice.
    unsafe { copy(to.as_mut_ptr(), from, to.len()) }
}

/// Copies `len` bytes.
///
/// # Safety
///
/// `from` must be valid for reads and `to` for writes of `len` bytes, and the two must not overlap.
#[inline(always)]
unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    if len > 64 {
        // SAFETY: the same contract, and the length is above 64.
        unsafe { copy_long(to, from, len) }
    } else if len > 32 {
        // SAFETY: (1) 32 bytes from the front and 32 before the end lie within `len`; (2) registers are named.
        unsafe {
            asm!(
                "movdqu {a}, [{from}]",
                "movdqu {b}, [{from} + 16]",
                "movdqu {c}, [{from} + {len} - 32]",
                "movdqu {d}, [{from} + {len} - 16]",
                "movdqu [{to}], {a}",
                "movdqu [{to} + 16], {b}",
                "movdqu [{to} + {len} - 32], {c}",
                "movdqu [{to} + {len} - 16], {d}",
                a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                to = in(reg) to, from = in(reg) from, len = in(reg) len,
                options(nostack, preserves_flags),
            );
        }
    } else if len > 16 {
        // SAFETY: (1) 16 bytes from the front and 16 before the end lie within `len`; (2) registers are named.
        unsafe {
            asm!(
                "movdqu {a}, [{from}]",
                "movdqu {b}, [{from} + {len} - 16]",
                "movdqu [{to}], {a}",
                "movdqu [{to} + {len} - 16], {b}",
                a = out(xmm_reg) _, b = out(xmm_reg) _,
                to = in(reg) to, from = in(reg) from, len = in(reg) len,
                options(nostack, preserves_flags),
            );
        }
    } else if len >= 8 {
        // SAFETY: (1) 8 bytes from the front and 8 before the end lie within `len`; (2) registers are named.
        unsafe {
            asm!(
                "mov {a}, [{from}]",
                "mov {b}, [{from} + {len} - 8]",
                "mov [{to}], {a}",
                "mov [{to} + {len} - 8], {b}",
                a = out(reg) _, b = out(reg) _,
                to = in(reg) to, from = in(reg) from, len = in(reg) len,
                options(nostack, preserves_flags),
            );
        }
    } else if len >= 4 {
        // SAFETY: (1) 4 bytes from the front and 4 before the end lie within `len`; (2) registers are named.
        unsafe {
            asm!(
                "mov {a:e}, [{from}]",
                "mov {b:e}, [{from} + {len} - 4]",
                "mov [{to}], {a:e}",
                "mov [{to} + {len} - 4], {b:e}",
                a = out(reg) _, b = out(reg) _,
                to = in(reg) to, from = in(reg) from, len = in(reg) len,
                options(nostack, preserves_flags),
            );
        }
    } else if len >= 2 {
        // SAFETY: (1) 2 bytes from the front and 2 before the end lie within `len`; (2) registers are named.
        unsafe {
            asm!(
                "movzx {a:e}, word ptr [{from}]",
                "movzx {b:e}, word ptr [{from} + {len} - 2]",
                "mov [{to}], {a:x}",
                "mov [{to} + {len} - 2], {b:x}",
                a = out(reg) _, b = out(reg) _,
                to = in(reg) to, from = in(reg) from, len = in(reg) len,
                options(nostack, preserves_flags),
            );
        }
    } else if len == 1 {
        // SAFETY: (1) the one byte; (2) the register is named.
        unsafe {
            asm!(
                "movzx {a:e}, byte ptr [{from}]",
                "mov byte ptr [{to}], {a:l}",
                a = out(reg) _, to = in(reg) to, from = in(reg) from,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// What the processor has. Asked once and then kept, so that a copy asks with one load.
static WIDTH: AtomicU8 = AtomicU8::new(0);
const SSE: u8 = 1;
const AVX: u8 = 2;
const AVX_512: u8 = 3;

#[cold]
fn detect() -> u8 {
    // `avx512vbmi2` came with the processors that no longer slow down when they use the wide registers.
    let width = if is_x86_feature_detected!("avx512vbmi2") && is_x86_feature_detected!("avx512vl") {
        AVX_512
    } else if is_x86_feature_detected!("avx") {
        AVX
    } else {
        SSE
    };
    WIDTH.store(width, Relaxed);
    width
}

/// Copies more than 64 bytes by the widest registers that the processor has.
///
/// # Safety
///
/// That of [`copy`], and `len > 64`.
#[inline(never)]
unsafe fn copy_long(to: *mut u8, from: *const u8, len: usize) {
    // ORDERING: Relaxed; the number stands for itself, and whoever sees none asks again.
    let width = match WIDTH.load(Relaxed) {
        0 => detect(),
        known => known,
    };
    match width {
        // SAFETY: (as for the rest) the same contract, and the processor has the registers; `len` is 65 to 128.
        AVX_512 if len <= 128 => unsafe { high_2_of_256(to, from, len) },
        // SAFETY: as above; `len` is 129 to 256.
        AVX_512 if len <= 256 => unsafe { high_4_of_256(to, from, len) },
        // SAFETY: as above; `len` is 257 to 512.
        AVX_512 if len <= 512 => unsafe { ends_4_of_512(to, from, len) },
        // SAFETY: as above; it needs nothing of `len`.
        AVX_512 if (REP..STREAM).contains(&len) && !is_just_above(to, from) => unsafe {
            rep(to, from, len)
        },
        // SAFETY: as above; `len` is above 512.
        AVX_512 if len < STREAM => unsafe { loop_512(to, from, len) },
        // SAFETY: as above; `len` is above 512.
        AVX_512 => unsafe { stream_512(to, from, len) },
        // SAFETY: as above; `len` is 65 to 128.
        AVX if len <= 128 => unsafe { ends_2_of_256(to, from, len) },
        // SAFETY: as above; `len` is 129 to 256.
        AVX if len <= 256 => unsafe { ends_4_of_256(to, from, len) },
        // SAFETY: as above; `len` is above 256.
        AVX if len < STREAM => unsafe { loop_256(to, from, len) },
        // SAFETY: as above; `len` is above 256.
        AVX => unsafe { stream_256(to, from, len) },
        // SAFETY: as above; `len` is above 64.
        _ => unsafe { loop_sse(to, from, len) },
    }
}

/// Copies by the processor's own instruction for it.
///
/// # Safety
///
/// That of [`copy`].
unsafe fn rep(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: it copies `len` bytes from `rsi` to `rdi`, for which the caller vouches.
    unsafe {
        asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") len => _,
            options(nostack, preserves_flags));
    }
}

/// Loads of so many vectors from the front and from the end, which overlap or touch, then the stores.
macro_rules! both_ends {
    ($name:ident, $v:literal, $width:literal, $mov:literal, $clean:literal, $($front:literal $back:literal $nth:literal $last:literal),+) => {
        /// # Safety
        ///
        /// That of [`copy`], `len` is not below the vectors of one side, nor above those of both, and the processor has
        /// the registers.
        #[inline(always)]
        pub(super) unsafe fn $name(to: *mut u8, from: *const u8, len: usize) {
            // SAFETY: (1) as many bytes from the front and before the end lie within `len`; (2) the whole of the calling
            // convention's registers is given up; (3) the processor has the registers, says the caller.
            unsafe {
                asm!(
                    $(concat!($mov, " ", $v, $front, ", [rsi + ", $nth, " * ", $width, "]"),)+
                    $(concat!($mov, " ", $v, $back, ", [rsi + rdx - ", $last, " * ", $width, "]"),)+
                    $(concat!($mov, " [rdi + ", $nth, " * ", $width, "], ", $v, $front),)+
                    $(concat!($mov, " [rdi + rdx - ", $last, " * ", $width, "], ", $v, $back),)+
                    $clean,
                    in("rdi") to, in("rsi") from, in("rdx") len,
                    clobber_abi("sysv64"), options(nostack, preserves_flags),
                );
            }
        }
    };
}

// Of the wide registers those from 16 on, of which no older instruction knows the lower half: so none is slowed down by
// an upper half that is not cleared, and `vzeroupper` can be left out.
both_ends!(high_2_of_256, "ymm2", "32", "vmovdqu64", "", "0" "2" "0" "1", "1" "3" "1" "2");
both_ends!(high_4_of_256, "ymm2", "32", "vmovdqu64", "",
    "0" "4" "0" "1", "1" "5" "1" "2", "2" "6" "2" "3", "3" "7" "3" "4");
both_ends!(ends_4_of_512, "zmm2", "64", "vmovdqu64", "",
    "0" "4" "0" "1", "1" "5" "1" "2", "2" "6" "2" "3", "3" "7" "3" "4");
both_ends!(ends_2_of_256, "ymm", "32", "vmovdqu", "vzeroupper", "0" "2" "0" "1", "1" "3" "1" "2");
both_ends!(ends_4_of_256, "ymm", "32", "vmovdqu", "vzeroupper",
    "0" "4" "0" "1", "1" "5" "1" "2", "2" "6" "2" "3", "3" "7" "3" "4");

/// Whether `to` lies 1 to 63 bytes above `from` modulo 4096: there `rep movsb` takes up to twenty times as long.
fn is_just_above(to: *const u8, from: *const u8) -> bool {
    (1..64).contains(&(to.addr().wrapping_sub(from.addr()) % 4096))
}

/// A loop of four vectors a round from an aligned destination on, then the last four again.
///
/// `rdi` is the destination, `rsi` the distance from it to the source, `rax` and `rcx` the last round of each.
macro_rules! vector_loop {
    ($name:ident, $v:literal, $width:literal, $unaligned:literal, $store:literal, $fence:literal, $clean:literal) => {
        /// # Safety
        ///
        /// That of [`copy`], `len` is above 256, and the processor has the registers.
        pub(super) unsafe fn $name(to: *mut u8, from: *const u8, len: usize) {
            // SAFETY: (1) a round is begun only below the last one, which lies within `len`, so each stays within it; the
            // first vector makes up for what aligning skips; (2) the whole of the calling convention's registers is given
            // up; (3) the processor has the registers, says the caller.
            unsafe {
                asm!(
                    concat!($unaligned, " ", $v, "0, [rsi]"),
                    concat!("lea rax, [rsi + rdx - 4 * ", $width, "]"),
                    concat!("lea rcx, [rdi + rdx - 4 * ", $width, "]"),
                    concat!($unaligned, " [rdi], ", $v, "0"),
                    "sub rsi, rdi",
                    concat!("or rdi, ", $width, " - 1"),
                    "inc rdi",
                    "cmp rdi, rcx",
                    "jae 3f",
                    $fence,
                    ".p2align 5",
                    "2:",
                    concat!($unaligned, " ", $v, "0, [rsi + rdi]"),
                    concat!($unaligned, " ", $v, "1, [rsi + rdi + ", $width, "]"),
                    concat!($unaligned, " ", $v, "2, [rsi + rdi + 2 * ", $width, "]"),
                    concat!($unaligned, " ", $v, "3, [rsi + rdi + 3 * ", $width, "]"),
                    concat!($store, " [rdi], ", $v, "0"),
                    concat!($store, " [rdi + ", $width, "], ", $v, "1"),
                    concat!($store, " [rdi + 2 * ", $width, "], ", $v, "2"),
                    concat!($store, " [rdi + 3 * ", $width, "], ", $v, "3"),
                    concat!("add rdi, 4 * ", $width),
                    "cmp rdi, rcx",
                    "jb 2b",
                    $fence,
                    "3:",
                    concat!($unaligned, " ", $v, "0, [rax]"),
                    concat!($unaligned, " ", $v, "1, [rax + ", $width, "]"),
                    concat!($unaligned, " ", $v, "2, [rax + 2 * ", $width, "]"),
                    concat!($unaligned, " ", $v, "3, [rax + 3 * ", $width, "]"),
                    concat!($unaligned, " [rcx], ", $v, "0"),
                    concat!($unaligned, " [rcx + ", $width, "], ", $v, "1"),
                    concat!($unaligned, " [rcx + 2 * ", $width, "], ", $v, "2"),
                    concat!($unaligned, " [rcx + 3 * ", $width, "], ", $v, "3"),
                    $clean,
                    inout("rdi") to => _, inout("rsi") from => _, in("rdx") len, out("rax") _, out("rcx") _,
                    clobber_abi("sysv64"), options(nostack),
                );
            }
        }
    };
}

vector_loop!(loop_512, "zmm2", "64", "vmovdqu64", "vmovdqa64", "", "");
vector_loop!(
    loop_256,
    "ymm",
    "32",
    "vmovdqu",
    "vmovdqa",
    "",
    "vzeroupper"
);
// These store past the caches, which no ordinary store is ordered with: the first fence keeps what they store behind every
// earlier store, as a word that announces it; the second one before every later store, as a word that publishes it.
vector_loop!(
    stream_512,
    "zmm2",
    "64",
    "vmovdqu64",
    "vmovntdq",
    "sfence",
    ""
);
vector_loop!(
    stream_256,
    "ymm",
    "32",
    "vmovdqu",
    "vmovntdq",
    "sfence",
    "vzeroupper"
);

/// Rounds of 64 bytes, then the last 64 bytes again: for processors without AVX.
///
/// # Safety
///
/// That of [`copy`], and `len > 64`.
pub(super) unsafe fn loop_sse(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: (1) a round is begun only below the last 64 bytes, which lie within `len`, so each stays within it;
    // (2) registers are named.
    unsafe {
        asm!(
            "lea {last_from}, [{from} + {len} - 64]",
            "lea {last_to}, [{to} + {len} - 64]",
            "sub {from}, {to}",
            ".p2align 5",
            "2:",
            "movdqu {a}, [{from} + {to}]",
            "movdqu {b}, [{from} + {to} + 16]",
            "movdqu {c}, [{from} + {to} + 32]",
            "movdqu {d}, [{from} + {to} + 48]",
            "movdqu [{to}], {a}",
            "movdqu [{to} + 16], {b}",
            "movdqu [{to} + 32], {c}",
            "movdqu [{to} + 48], {d}",
            "add {to}, 64",
            "cmp {to}, {last_to}",
            "jb 2b",
            "movdqu {a}, [{last_from}]",
            "movdqu {b}, [{last_from} + 16]",
            "movdqu {c}, [{last_from} + 32]",
            "movdqu {d}, [{last_from} + 48]",
            "movdqu [{last_to}], {a}",
            "movdqu [{last_to} + 16], {b}",
            "movdqu [{last_to} + 32], {c}",
            "movdqu [{last_to} + 48], {d}",
            a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
            to = inout(reg) to => _, from = inout(reg) from => _, len = in(reg) len,
            last_from = out(reg) _, last_to = out(reg) _,
            options(nostack),
        );
    }
}

//! Fences in other processes (`membarrier`, global expedited).
//!
//! # Safety
//!
//! The two commands used here take no pointer and change no memory.
#![allow(unsafe_code)]

const GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

/// Lets this process take part in [`fence_everyone`]. False if the kernel cannot.
pub(crate) fn register() -> bool {
    call(REGISTER_GLOBAL_EXPEDITED)
}

/// Makes every running thread of every registered process, and the caller, pass a full fence.
pub(crate) fn fence_everyone() -> bool {
    call(GLOBAL_EXPEDITED)
}

fn call(command: libc::c_int) -> bool {
    // SAFETY: membarrier with these commands takes three plain numbers.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

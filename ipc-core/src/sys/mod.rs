//! One function per system call, without policy.

pub(crate) mod file_system;
pub(crate) mod futex;
pub(crate) mod lock;
pub(crate) mod membarrier;
pub(crate) mod mm;
pub(crate) mod process;

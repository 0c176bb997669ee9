//! One function per system call, without policy.

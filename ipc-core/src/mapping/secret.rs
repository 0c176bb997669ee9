//! A buffer for a secret: it is not swapped out, not dumped, not inherited, and does not outlive its use.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use super::{Advice, MapError, MapOptions, PrivateMapping};

/// Bytes that stay in this process and in memory.
///
/// They are locked in memory and left out of core dumps, lie between guard pages, are wiped when the buffer is dropped, and
/// a forked child finds zeros in their place. What copies the program makes of them elsewhere is its own affair.
pub struct SecretBuffer {
    memory: PrivateMapping,
}

impl SecretBuffer {
    /// A buffer of `len` zeros.
    ///
    /// # Errors
    ///
    /// [`MapError::LockLimit`] where the process may not lock so much; else what the kernel says.
    pub fn new(len: usize) -> Result<SecretBuffer, MapError> {
        let mut memory = MapOptions::new()
            .private()
            .len(len)
            .guard_pages()
            .map_anonymous()?
            .into_private()?;
        memory.advise(.., Advice::DontDump)?;
        memory.advise(.., Advice::WipeOnFork)?;
        memory.lock(..)?;
        Ok(SecretBuffer { memory })
    }
}

impl Deref for SecretBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory
    }
}

impl DerefMut for SecretBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}

impl Drop for SecretBuffer {
    fn drop(&mut self) {
        // These stores cannot be left out as dead: the call that unmaps the pages afterwards might, for all that the
        // compiler knows, look at them.
        self.memory.fill(0);
    }
}

impl fmt::Debug for SecretBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBuffer of {} bytes", self.len())
    }
}

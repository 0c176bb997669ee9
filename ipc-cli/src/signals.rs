//! Signals that ask for the end: they set a flag, and whoever works looks at it.
//!
//! No thread is started, so that the process can still fork.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::ended::Ended;

/// The flag. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signals {
    /// The signal that came; zero for none.
    came: Arc<AtomicUsize>,
    /// Signals end this process at once.
    deadly: Arc<AtomicBool>,
}

impl Signals {
    /// Catches them from now on.
    pub(crate) fn catch() -> anyhow::Result<Self> {
        let signals = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register_conditional_default(signal, signals.deadly.clone())?;
            flag::register_usize(signal, signals.came.clone(), signal as usize)?;
        }
        Ok(signals)
    }

    /// Lets signals end this process again, as a forked child wants it.
    pub(crate) fn let_them_kill(&self) {
        self.deadly.store(true, Ordering::Relaxed);
    }

    /// An error once a signal has come.
    pub(crate) fn check(&self) -> Result<(), Ended> {
        match self.came.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Ended::Interrupted(signal as i32)),
        }
    }
}

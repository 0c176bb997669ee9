//! The processes that share something with this one: whether one of them has ended, and a word to sleep on until one does.
//!
//! The kernel tells of the end of a process through a descriptor that stands for it, and wakes nobody who sleeps on a word. So
//! one thread of this process waits for the descriptors, all at once, and counts; the count is a word, and whoever sleeps on
//! others sleeps on that one too. The thread is started when the first peer is watched, and never runs but when one ends.
//!
//! A descriptor is opened once, however many segments are shared with the process behind it, and closed when the last of
//! them is let go. It is asked for one event only: a forked child may keep it open, and would have it tell for ever.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::helper::{Helper, Place};
use crate::memory::Identity;
use crate::sys;
use crate::sys::process::Standing;

/// How many processes of one segment are remembered. Of more, the rest is looked up again and again, and not watched.
const MOST: usize = 64;

/// How long those are remembered who may have left, where there is no room for others.
const FORGETS: Duration = Duration::from_secs(60);

/// The peers that one attachment has asked for, so that asking again costs a hundredth of looking a process up: a waiter
/// asks every few milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    peers: Vec<Arc<Peer>>,
    /// When there was no room, and all were forgotten.
    forgot: Option<Instant>,
}

/// A process that was found running.
#[derive(Debug)]
struct Peer {
    who: Identity,
    process: OwnedFd,
    watched: OnceLock<()>,
}

impl Peers {
    /// Whether that process is proven to have ended. `me` is the identity of the calling one.
    pub(crate) fn is_gone(&self, who: &Identity, me: &Identity) -> bool {
        match self.find(who, me) {
            Ok((peer, _)) => sys::process::has_ended(&peer.process),
            Err(Standing::Gone) => true,
            Err(_) => false,
        }
    }

    /// Whether the end of that process will change [`deaths`]: watches it from now on.
    pub(crate) fn watches(&self, who: &Identity, me: &Identity) -> bool {
        // Where /proc tells nothing, two may look alike.
        if who == me && me.start != 0 && me.pid_namespace != 0 {
            return true;
        }
        // One that is not remembered is forgotten at once, and its descriptor closed.
        matches!(self.find(who, me), Ok((peer, true)) if watch(&peer))
    }

    /// A process that ran when it was looked up first, and whether it is remembered; or what is known of it otherwise.
    fn find(&self, who: &Identity, me: &Identity) -> Result<(Arc<Peer>, bool), Standing> {
        let mut known = unpoisoned(&self.known);
        if let Some(peer) = known.peers.iter().find(|peer| peer.who == *who) {
            return Ok((peer.clone(), true));
        }
        let peer = watcher().find(who, me)?;
        let before = known.peers.len();
        let has_ended = |peer: &Arc<Peer>| sys::process::has_ended(&peer.process);
        known.peers.retain(|peer| !has_ended(peer));
        // Some may have left, and live on.
        let is_due = |forgot: Instant| forgot.elapsed() >= FORGETS;
        if known.peers.len() == MOST && known.forgot.is_none_or(is_due) {
            known.peers.clear();
            known.forgot = Some(Instant::now());
        }
        if known.peers.len() < before {
            // Of one whose descriptor has just been closed, the thread may not have been told, or will not be.
            watcher().count();
        }
        let is_room = known.peers.len() < MOST;
        if is_room {
            known.peers.push(peer.clone());
        }
        Ok((peer, is_room))
    }
}

/// What all attachments of this process share with its thread.
#[derive(Default)]
struct Watcher {
    /// Every process that an attachment remembers.
    known: Mutex<Vec<Weak<Peer>>>,
    descriptors: OnceLock<OwnedFd>,
    deaths: AtomicU32,
    /// The thread has ended.
    over: OnceLock<()>,
}

fn watcher() -> &'static Helper<Watcher> {
    static WATCHER: Place<Watcher> = Place::new();
    WATCHER.get()
}

/// How many of the watched have ended.
pub(crate) fn deaths() -> u32 {
    // ORDERING: Acquire pairs with the AcqRel in `count`: whoever sees the count finds the process ended.
    watcher().deaths.load(Acquire)
}

/// The word that [`deaths`] loads, for the kernel. It is never freed.
pub(crate) fn deaths_word() -> *const AtomicU32 {
    &raw const watcher().deaths
}

/// Adds the peer to those whose end the thread waits for. False if that cannot be.
fn watch(peer: &Peer) -> bool {
    let watcher = watcher();
    if peer.watched.get().is_none() {
        let thread = Builder::new()
            .name("ipc-peers".into())
            .stack_size(128 << 10);
        let Some(descriptors) = watcher.descriptors() else {
            return false;
        };
        if watcher.start(thread, Watcher::run).is_err() {
            return false;
        }
        let once = EventFlags::IN | EventFlags::ONESHOT;
        match epoll::add(descriptors, &peer.process, EventData::new_u64(0), once) {
            // Another thread was first.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(_) => return false,
        }
        let _ = peer.watched.set(());
    }
    watcher.over.get().is_none()
}

impl Watcher {
    /// The process, if an attachment of this process remembers it, or if it is found running.
    fn find(&self, who: &Identity, me: &Identity) -> Result<Arc<Peer>, Standing> {
        let remembered = |known: &[Weak<Peer>]| {
            let mut alive = known.iter().filter_map(Weak::upgrade);
            alive.find(|peer| peer.who == *who)
        };
        if let Some(peer) = remembered(&unpoisoned(&self.known)) {
            return Ok(peer);
        }
        let process = match sys::process::look_up(who, me) {
            Standing::Runs(process) => process,
            other => return Err(other),
        };
        let mut known = unpoisoned(&self.known);
        // Another thread may have been first.
        if let Some(peer) = remembered(&known) {
            return Ok(peer);
        }
        let peer = Arc::new(Peer {
            who: *who,
            process,
            watched: OnceLock::new(),
        });
        known.retain(|peer| peer.strong_count() > 0);
        known.push(Arc::downgrade(&peer));
        Ok(peer)
    }

    fn descriptors(&self) -> Option<&OwnedFd> {
        if self.descriptors.get().is_none() {
            // Of two threads one wins, and the other's is closed.
            let _ = self
                .descriptors
                .set(epoll::create(CreateFlags::CLOEXEC).ok()?);
        }
        self.descriptors.get()
    }

    fn run(&self) {
        let mut ended = Vec::with_capacity(16);
        while let Some(descriptors) = self.descriptors.get() {
            ended.clear();
            match epoll::wait(descriptors, spare_capacity(&mut ended), None) {
                Ok(_) => self.count(),
                Err(Errno::INTR) => {}
                // Somebody has closed our descriptor: whoever relies on us is to look himself from now on.
                Err(_) => break,
            }
        }
        let _ = self.over.set(());
        self.count();
    }

    fn count(&self) {
        // ORDERING: AcqRel pairs with the Acquire in `deaths`.
        self.deaths.fetch_add(1, AcqRel);
        sys::futex::wake(&self.deaths, u32::MAX);
    }
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn child() -> (Child, Identity) {
        let child = Command::new("sleep").arg("1000").spawn().expect("a child");
        let start = sys::process::start_time(&child.id().to_string());
        let who = Identity {
            pid: child.id(),
            start: start.expect("/proc"),
            ..sys::process::identity()
        };
        (child, who)
    }

    #[test]
    fn the_end_of_one_who_is_forgotten_is_counted() {
        // Would catch a descriptor that is closed because its process has ended, before the thread was told of that: whoever
        // sleeps on the count sleeps on.
        let (me, peers) = (sys::process::identity(), Peers::default());
        let ((mut first, who), (mut second, other)) = (child(), child());
        assert!(!peers.is_gone(&who, &me));
        first.kill().and_then(|()| first.wait()).expect("killed");
        // Nobody watches it, so that nobody else counts it.
        let before = deaths();
        assert!(!peers.is_gone(&other, &me));
        assert_ne!(deaths(), before);
        second.kill().and_then(|()| second.wait()).expect("killed");
        assert!(peers.is_gone(&other, &me) && peers.is_gone(&who, &me));
    }
}

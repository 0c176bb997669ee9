//! A file cut short while it is mapped must cost an error, not the process.
//!
//! Whoever touches a page of a mapping whose file no longer reaches that far gets SIGBUS. The first registered mapping
//! installs a handler for the whole process. Where the fault lies in a registered range, the handler puts a private page
//! of zeros in the place of the missing one, marks the range as *poisoned* and lets the access go on; the safe calls look
//! at the mark after each copy and report that the file was cut short. The same happens where the file system or a memory
//! limit could not supply a page. (The technique is systemd's, in journald.)
//!
//! Every other SIGBUS goes to the handler that was there before, called as it asked to be called: with its mask, with
//! `SA_SIGINFO` or without, once if it said `SA_RESETHAND`. A failing memory chip (`BUS_MCEERR_*`) is no cut file and is
//! passed on too. A program that installs a handler of its own after the first mapping must in turn call ours.
//!
//! # Protocol
//!
//! The ranges lie in a list of chunks that only ever grows, so that the handler walks it without a lock. A slot is taken
//! by compare-exchange and changed under a version number that is odd meanwhile; the handler skips a slot that changes
//! while it looks. That loses nothing: a range that is being accessed is borrowed, so its slot is not changing.
//!
//! # Safety
//!
//! The handler runs in the middle of anything. It touches only atomics, cells written once and never changed, and system
//! calls; it allocates nothing and takes no lock. It replaces pages only inside registered ranges, whose owner keeps them
//! mapped until the slot is given back.
#![allow(unsafe_code)]

use std::{
    io,
    ops::Range,
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::*, fence},
    },
};

use crate::sys::mm;

/// The registration of one range: while it lives, a page missing there is replaced and noted.
#[derive(Debug)]
pub(crate) struct Guard {
    slot: &'static Slot,
}

impl Guard {
    /// Watches over `range`, which is mapped in pages of `page` bytes and stays so until the guard is dropped.
    pub(crate) fn new(range: Range<usize>, page: usize) -> io::Result<Guard> {
        install()?;
        let slot = RANGES.take();
        slot.set(range, page);
        Ok(Guard { slot })
    }

    /// Whether a page of the range was missing when it was touched. Once true it stays true.
    #[inline]
    pub(crate) fn is_poisoned(&self) -> bool {
        // ORDERING: Relaxed, as the handler runs on the thread whose access failed; other threads learn it in time.
        self.slot.poisoned.load(Relaxed)
    }

    /// Watches over a range that was part of this one, with the same mark.
    pub(crate) fn part(&self, range: Range<usize>) -> Guard {
        Paused {
            page: self.slot.page.load(Relaxed),
            poisoned: self.is_poisoned(),
        }
        .resume(range)
    }

    /// Ends the watch, for as long as the range changes its place.
    pub(crate) fn pause(self) -> Paused {
        Paused {
            page: self.slot.page.load(Relaxed),
            poisoned: self.is_poisoned(),
        }
    }
}

/// What is kept of a guard while nothing is watched.
#[derive(Debug)]
pub(crate) struct Paused {
    page: usize,
    poisoned: bool,
}

impl Paused {
    /// Watches over the range in its new place, with the old mark.
    pub(crate) fn resume(self, range: Range<usize>) -> Guard {
        let slot = RANGES.take();
        slot.set(range, self.page);
        slot.poisoned.store(self.poisoned, Relaxed);
        Guard { slot }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.slot.set(0..0, 0);
        // ORDERING: Release pairs with the Acquire in `take`: the range is empty for whoever takes the slot next.
        self.slot.taken.store(false, Release);
    }
}

/// One watched range; empty (`0..0`) when it is free.
#[derive(Debug)]
struct Slot {
    taken: AtomicBool,
    /// Odd while the fields below change.
    version: AtomicU32,
    start: AtomicUsize,
    end: AtomicUsize,
    page: AtomicUsize,
    poisoned: AtomicBool,
}

impl Slot {
    #[expect(
        clippy::declare_interior_mutable_const,
        reason = "it only fills the arrays below"
    )]
    const FREE: Slot = Slot {
        taken: AtomicBool::new(false),
        version: AtomicU32::new(0),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        page: AtomicUsize::new(0),
        poisoned: AtomicBool::new(false),
    };

    /// Changes the range; only the one who has taken the slot calls it.
    fn set(&self, range: Range<usize>, page: usize) {
        let version = self.version.load(Relaxed);
        self.version.store(version.wrapping_add(1), Relaxed);
        // ORDERING: pairs with the Acquire fence in `covers`: who reads a field below sees an odd or a newer version.
        fence(Release);
        self.start.store(range.start, Relaxed);
        self.end.store(range.end, Relaxed);
        self.page.store(page, Relaxed);
        self.poisoned.store(false, Relaxed);
        // ORDERING: Release pairs with the Acquire load in `covers`: an even version shows the fields above.
        self.version.store(version.wrapping_add(2), Release);
    }

    /// The page around `address` if it lies in this range.
    fn covers(&self, address: usize) -> Option<Range<usize>> {
        // ORDERING: Acquire pairs with the Release store in `set`.
        let version = self.version.load(Acquire);
        let (start, end) = (self.start.load(Relaxed), self.end.load(Relaxed));
        let page = self.page.load(Relaxed);
        // ORDERING: pairs with the Release fence in `set`.
        fence(Acquire);
        let changing = version % 2 == 1 || self.version.load(Relaxed) != version;
        if changing || !(start..end).contains(&address) {
            return None;
        }
        let first = address / page * page;
        Some(first..first + page)
    }
}

/// A part of the list of ranges. It is never freed.
struct Chunk {
    slots: [Slot; 128],
    next: OnceLock<Box<Chunk>>,
}

static RANGES: Chunk = Chunk::new();

impl Chunk {
    const fn new() -> Chunk {
        Chunk {
            slots: [Slot::FREE; 128],
            next: OnceLock::new(),
        }
    }

    /// Takes a free slot, and makes more of them when all are taken.
    fn take(&'static self) -> &'static Slot {
        for slot in &self.slots {
            // ORDERING: Acquire pairs with the Release in `Guard::drop`.
            if slot
                .taken
                .compare_exchange(false, true, Acquire, Relaxed)
                .is_ok()
            {
                return slot;
            }
        }
        self.next.get_or_init(|| Box::new(Chunk::new())).take()
    }

    /// The slot whose range holds `address`, and the page around it.
    fn find(&'static self, address: usize) -> Option<(&'static Slot, Range<usize>)> {
        let mut chunk = self;
        loop {
            for slot in &chunk.slots {
                if let Some(page) = slot.covers(address) {
                    return Some((slot, page));
                }
            }
            chunk = chunk.next.get()?;
        }
    }
}

/// What was installed before us.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();
/// Whether a previous handler that asked to be called once has been.
static SPENT: AtomicBool = AtomicBool::new(false);

/// Installs the handler, the first time it is called.
fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let done = INSTALLED.get_or_init(|| {
        let mut previous = current()?;
        // A handler may run as soon as it is installed, so what was there before must be known by then.
        PREVIOUS.get_or_init(|| previous);
        // SAFETY: all zero is a valid `sigaction`: no flags, an empty mask, the default action.
        let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
        ours.sa_sigaction = on_sigbus as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: both point to live structures, and the handler is safe to run at any moment (see the module).
        match unsafe { libc::sigaction(libc::SIGBUS, &ours, &mut previous) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EINVAL)),
        }
    });
    done.map_err(io::Error::from_raw_os_error)
}

/// The handler in force.
fn current() -> Result<libc::sigaction, i32> {
    // SAFETY: all zero is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is installed, and `action` is live.
    match unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &mut action) } {
        0 => Ok(action),
        _ => Err(io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EINVAL)),
    }
}

/// The handler.
extern "C" fn on_sigbus(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a live structure, which nobody changes meanwhile.
    let about = unsafe { &*info };
    let code = about.si_code;
    if code == libc::BUS_ADRERR {
        // SAFETY: the address is filled in for this code.
        let address = unsafe { about.si_addr() };
        if replace(address.addr()) {
            return;
        }
    }
    chain(signal, info, context, code > 0);
}

/// Puts zeros in the place of a missing page of a registered range. Says whether there was one.
fn replace(address: usize) -> bool {
    let Some((slot, page)) = RANGES.find(address) else {
        return false;
    };
    // SAFETY: the page lies in a registered range, which its owner keeps mapped and to which he has no references but
    // such as allow for changes by others.
    let placed = unsafe {
        mm::mmap_anonymous(
            ptr::without_provenance_mut(page.start),
            page.len(),
            mm::ProtFlags::READ | mm::ProtFlags::WRITE,
            mm::MapFlags::PRIVATE | mm::MapFlags::FIXED,
        )
    };
    if placed.is_ok() {
        slot.poisoned.store(true, Relaxed);
    }
    placed.is_ok()
}

/// Does what would have been done without us. `fault`: the kernel raised the signal for an access of this thread.
fn chain(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void, fault: bool) {
    let Some(previous) = PREVIOUS.get() else {
        return die(fault);
    };
    let once = previous.sa_flags & libc::SA_RESETHAND != 0;
    match previous.sa_sigaction {
        libc::SIG_DFL => die(fault),
        // The kernel does not let a fault be ignored, or it would repeat for ever.
        libc::SIG_IGN if fault => die(fault),
        libc::SIG_IGN => {}
        _ if once && SPENT.swap(true, Relaxed) => die(fault),
        handler => {
            let mut before = previous.sa_mask;
            // SAFETY: both point to live sets.
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &previous.sa_mask, &mut before) };
            if previous.sa_flags & libc::SA_SIGINFO != 0 {
                type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
                // SAFETY: whoever installed it with SA_SIGINFO gave a function of this type.
                let handler: Handler = unsafe { std::mem::transmute(handler) };
                handler(signal, info, context);
            } else {
                // SAFETY: whoever installed it without SA_SIGINFO gave a function of this type.
                let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(handler) };
                handler(signal);
            }
            // SAFETY: the set is live.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) };
        }
    }
}

/// Lets SIGBUS do what it does by default: a fault repeats when we return, a signal that was sent is sent again.
fn die(fault: bool) {
    // SAFETY: all zero is a valid `sigaction`: the default action.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is live, and no function is installed.
    unsafe { libc::sigaction(libc::SIGBUS, &default, ptr::null_mut()) };
    if !fault {
        // SAFETY: it takes a number.
        unsafe { libc::raise(libc::SIGBUS) };
    }
}

//! What a mapping does to a process that breaks its rules: one action a run, in a process of its own.
//!
//! The tests of mappings run it and look at how it ends. `mapping-probe ACTION [ARGUMENT…]`.
//!
//! # Safety
//!
//! The raw accesses are the point: each action says which page it touches and what is to come of it. Every fork happens
//! while the process has one thread.
#![allow(unsafe_code)]

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::fd::AsFd,
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};

use ipc_core::{
    MapOptions,
    mapping::{Access, Advice, MapError, Resize, SecretBuffer, page_size},
};
use nix::{
    sys::{
        resource::{Resource, setrlimit},
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
        wait::waitpid,
    },
    unistd::{ForkResult, fork},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // The tests look at signals, not at core files.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).expect("lowering a limit is always allowed");
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[&str]) -> Result<(), Box<dyn std::error::Error>> {
    match arguments {
        ["raw-past-end", path] => raw_past_end(&open(path)?),
        ["raw-cut-short", path] => raw_cut_short(&open(path)?),
        ["guarded-cut-short", path] => guarded_cut_short(&open(path)?),
        ["overrun", which] => overrun(which),
        ["write-protected"] => write_protected(),
        ["touch-reserved"] => touch_reserved(),
        ["fork"] => fork_both_kinds(),
        ["dont-fork"] => dont_fork(),
        ["secret"] => secret(),
        ["lock-limit", bytes] => lock_limit(bytes.parse()?),
        ["lock-not-inherited"] => lock_not_inherited(),
        ["size-limit", path, bytes] => size_limit(path, bytes.parse()?),
        ["fill", path, bytes] => fill(path, bytes.parse()?),
        ["address-limit", bytes] => address_limit(bytes.parse()?),
        ["chain", kind, path] => chain(kind, path),
        ["all-locked"] => all_locked(),
        ["signal-storm", bytes] => signal_storm(bytes.parse()?),
        ["resident", path] => resident(path),
        ["after-exec", descriptor] => after_exec(descriptor.parse()?),
        _ => Err(format!("no such action: {arguments:?}").into()),
    }
}

fn open(path: &str) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Reads a byte at an address that the compiler knows nothing of.
fn peek(address: usize) -> u8 {
    // SAFETY: none, on purpose: the caller wants to see whether it faults.
    unsafe { std::ptr::with_exposed_provenance::<u8>(address).read_volatile() }
}

fn poke(address: usize) {
    // SAFETY: none, on purpose: the caller wants to see whether it faults.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(1) }
}

/// Maps a page that lies wholly past the end of the file, without the library, and reads it: SIGBUS.
fn raw_past_end(file: &File) -> Result<(), Box<dyn std::error::Error>> {
    let page = page_size();
    let (prot, flags) = (rustix::mm::ProtFlags::READ, rustix::mm::MapFlags::SHARED);
    // SAFETY: nothing is replaced.
    let at = unsafe { rustix::mm::mmap(std::ptr::null_mut(), 2 * page, prot, flags, file, 0) }?;
    println!("in the last page: {}", peek(at.expose_provenance()));
    println!("past it: {}", peek(at.expose_provenance() + page));
    Ok(())
}

/// Reads a page that the file has lost, without the library: SIGBUS.
fn raw_cut_short(file: &File) -> Result<(), Box<dyn std::error::Error>> {
    let (prot, flags) = (rustix::mm::ProtFlags::READ, rustix::mm::MapFlags::SHARED);
    // SAFETY: nothing is replaced.
    let at = unsafe { rustix::mm::mmap(std::ptr::null_mut(), page_size(), prot, flags, file, 0) }?;
    file.set_len(0)?;
    println!("{}", peek(at.expose_provenance()));
    Ok(())
}

/// The same through the library: an error.
fn guarded_cut_short(file: &File) -> Result<(), Box<dyn std::error::Error>> {
    let mapping = MapOptions::new().map_file(file)?;
    file.set_len(0)?;
    match mapping.read_at(0, &mut [0]) {
        Err(error @ MapError::CutShort { .. }) => println!("{error}"),
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

/// Writes one byte before or after a mapping with guard pages: SIGSEGV.
fn overrun(which: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mapping = MapOptions::new()
        .len(page_size())
        .guard_pages()
        .map_anonymous()?;
    poke(mapping.address());
    poke(mapping.address() + page_size() - 1);
    println!("inside");
    std::io::stdout().flush()?;
    poke(if which == "before" {
        mapping.address() - 1
    } else {
        mapping.address() + page_size()
    });
    Ok(())
}

/// The safe call refuses to write a protected page; a raw store faults.
fn write_protected() -> Result<(), Box<dyn std::error::Error>> {
    let mut mapping = MapOptions::new()
        .private()
        .len(page_size())
        .map_anonymous()?;
    mapping.protect(Access::Read)?;
    println!("{}", mapping.write_at(0, &[1]).unwrap_err());
    poke(mapping.address());
    Ok(())
}

/// A reserved range faults at once.
fn touch_reserved() -> Result<(), Box<dyn std::error::Error>> {
    let mapping = MapOptions::new()
        .no_access()
        .len(page_size())
        .map_anonymous()?;
    println!("{}", mapping.read_at(0, &mut [0]).unwrap_err());
    peek(mapping.address());
    Ok(())
}

/// Runs `child` in a forked child and waits for its end.
fn in_child(
    child: impl FnOnce() -> Result<(), MapError>,
) -> Result<(), Box<dyn std::error::Error>> {
    std::io::stdout().flush()?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let code = match child() {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("child: {error}");
                    1
                }
            };
            std::process::exit(code)
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None)?;
            if status == nix::sys::wait::WaitStatus::Exited(child, 0) {
                Ok(())
            } else {
                Err(format!("{status:?}").into())
            }
        }
    }
}

/// A private mapping is copied to a child, a shared one shared with it.
fn fork_both_kinds() -> Result<(), Box<dyn std::error::Error>> {
    let private = MapOptions::new().private().len(8).map_anonymous()?;
    let shared = MapOptions::new().len(8).map_anonymous()?;
    private.write_at(0, b"before")?;
    shared.write_at(0, b"before")?;
    in_child(|| {
        for mapping in [&private, &shared] {
            assert_eq!(mapping.to_vec(0..6)?, b"before");
            mapping.write_at(0, b"child!")?;
        }
        Ok(())
    })?;
    for mapping in [private, shared] {
        println!("{}", String::from_utf8(mapping.to_vec(0..6)?)?);
    }
    Ok(())
}

/// A mapping that is kept from children fails there with an error.
fn dont_fork() -> Result<(), Box<dyn std::error::Error>> {
    let mapping = MapOptions::new().len(8).map_anonymous()?;
    mapping.advise(.., Advice::DontFork)?;
    in_child(|| {
        assert!(matches!(
            mapping.write_at(0, &[1]),
            Err(MapError::NotInChild { .. })
        ));
        assert!(matches!(
            mapping.read_at(0, &mut [1]),
            Err(MapError::NotInChild { .. })
        ));
        assert!(mapping.atomic_u64(0).is_err());
        Ok(())
    })?;
    mapping.write_at(0, &[1])?;
    println!("kept");
    Ok(())
}

/// A secret is locked, not dumped, and zeros for a child.
fn secret() -> Result<(), Box<dyn std::error::Error>> {
    let mut secret = SecretBuffer::new(100)?;
    secret.copy_from_slice(&[7; 100]);
    let flags = smaps_flags(secret.as_ptr().expose_provenance());
    for flag in ["lo", "dd", "wf"] {
        assert!(
            flags.contains(&flag.to_string()),
            "{flag} is missing of {flags:?}"
        );
    }
    in_child(|| {
        assert!(secret.iter().all(|byte| *byte == 0));
        Ok(())
    })?;
    assert!(secret.iter().all(|byte| *byte == 7));
    println!("{secret:?}");
    Ok(())
}

/// The flags of the mapping around an address.
fn smaps_flags(address: usize) -> Vec<String> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").expect("it is always there");
    let mut inside = false;
    for line in smaps.lines() {
        if let Some((range, _)) = line
            .split_once(' ')
            .filter(|(range, _)| range.contains('-'))
        {
            let (from, to) = range.split_once('-').expect("just seen");
            let number = |text| usize::from_str_radix(text, 16).expect("an address");
            inside = (number(from)..number(to)).contains(&address);
        } else if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| inside) {
            return flags.split_whitespace().map(String::from).collect();
        }
    }
    Vec::new()
}

/// Over the limit, the error names it.
fn lock_limit(bytes: u64) -> Result<(), Box<dyn std::error::Error>> {
    setrlimit(Resource::RLIMIT_MEMLOCK, bytes, bytes)?;
    let mapping = MapOptions::new().len(1 << 20).map_anonymous()?;
    match mapping.lock(..) {
        Err(error @ MapError::LockLimit { .. }) => println!("{error}"),
        other => return Err(format!("{other:?}").into()),
    }
    mapping.lock(0..bytes as usize)?;
    mapping.unlock(..)?;
    Ok(())
}

/// A lock does not nest, and a child does not inherit it.
fn lock_not_inherited() -> Result<(), Box<dyn std::error::Error>> {
    let locked = || {
        let status = std::fs::read_to_string("/proc/self/status").expect("it is always there");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmLck:"))
            .expect("it has the line");
        line.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<u64>()
            .expect("a number")
    };
    let mapping = MapOptions::new().len(4 * page_size()).map_anonymous()?;
    mapping.lock(..)?;
    mapping.lock(..)?;
    println!("locked: {} pages", locked() * 1024 / page_size() as u64);
    in_child(|| {
        println!("child: {}", locked());
        Ok(())
    })?;
    mapping.unlock(..)?;
    println!("unlocked: {}", locked());
    mapping.lock_on_fault(..)?;
    // A new mapping over the range ends the lock.
    let (front, back) = mapping.split_at(page_size()).map_err(|kept| kept.error)?;
    drop(back);
    println!("rest: {} pages", locked() * 1024 / page_size() as u64);
    drop(front);
    Ok(())
}

/// Locks everything now and later.
fn all_locked() -> Result<(), Box<dyn std::error::Error>> {
    ipc_core::mapping::lock_all(true, true)?;
    let mapping = MapOptions::new().len(16 * page_size()).map_anonymous()?;
    println!("resident: {}", mapping.residency(..)?.resident());
    println!(
        "locked: {}",
        smaps_flags(mapping.address()).contains(&"lo".into())
    );
    ipc_core::mapping::unlock_all()?;
    println!(
        "locked: {}",
        smaps_flags(mapping.address()).contains(&"lo".into())
    );
    Ok(())
}

/// Growing a file past RLIMIT_FSIZE is an error and no SIGXFSZ.
fn size_limit(path: &str, bytes: u64) -> Result<(), Box<dyn std::error::Error>> {
    setrlimit(Resource::RLIMIT_FSIZE, bytes, bytes)?;
    let file = open(path)?;
    match MapOptions::new()
        .len(bytes as usize + 1)
        .extend_file()
        .map_file(&file)
    {
        Err(error @ MapError::FileSizeLimit { .. }) => println!("{error}"),
        other => return Err(format!("{other:?}").into()),
    }
    match MapOptions::new()
        .len(bytes as usize + 1)
        .map_memfd("limited")
    {
        Err(MapError::FileSizeLimit { .. }) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

/// Reserves more than a file system has, then what it has, and stores to every page of it.
fn fill(path: &str, bytes: usize) -> Result<(), Box<dyn std::error::Error>> {
    let file = open(path)?;
    let free = rustix::fs::fstatvfs(&file)?;
    let free = (free.f_bavail * free.f_frsize) as usize;
    match MapOptions::new()
        .len(free + bytes)
        .extend_file()
        .map_file(&file)
    {
        Err(error @ MapError::NoSpace { .. }) => println!("{error}"),
        other => return Err(format!("{other:?}").into()),
    }
    assert_eq!(
        file.metadata()?.len(),
        0,
        "a failed reservation leaves the file as it was"
    );
    let mapping = MapOptions::new().len(bytes).extend_file().map_file(&file)?;
    mapping.write_at(0, &vec![1; bytes])?;
    println!("filled");
    let kept = MapOptions::new()
        .keep_file()
        .map_file(&file)?
        .resize(free + bytes, Resize::MayMove);
    assert!(
        matches!(kept, Err(kept) if matches!(kept.error, MapError::NoSpace { .. }) && kept.mapping.len() == bytes)
    );
    // What was not reserved is an error too, at the store that finds no space.
    file.set_len((free + bytes) as u64)?;
    let sparse = MapOptions::new().map_file(&file)?;
    match sparse.write_at(0, &vec![1; free + bytes]) {
        Err(MapError::CutShort { .. }) => println!("no space for a hole"),
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

extern "C" fn count(_: i32) {
    CALLS.fetch_add(1, SeqCst);
}

/// Reserves memory while a timer interrupts every system call.
fn signal_storm(bytes: usize) -> Result<(), Box<dyn std::error::Error>> {
    let action = SigAction::new(
        SigHandler::Handler(count),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler only counts.
    unsafe { sigaction(Signal::SIGALRM, &action) }?;
    let each = nix::libc::timeval {
        tv_sec: 0,
        tv_usec: 100,
    };
    let timer = nix::libc::itimerval {
        it_interval: each,
        it_value: each,
    };
    // SAFETY: the structure is live, and nothing is asked back.
    unsafe { nix::libc::setitimer(nix::libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    let mapping = MapOptions::new().len(bytes).map_memfd("interrupted")?;
    assert!(
        CALLS.load(SeqCst) > 0,
        "no signal came: there was nothing to survive"
    );
    let blocks = rustix::fs::fstat(mapping.file().expect("it is kept"))?.st_blocks;
    println!("reserved: {}", blocks * 512 >= bytes as i64);
    Ok(())
}

/// Out of addresses: the error names the limit.
fn address_limit(bytes: u64) -> Result<(), Box<dyn std::error::Error>> {
    setrlimit(Resource::RLIMIT_AS, bytes, bytes)?;
    match MapOptions::new().len(bytes as usize).map_anonymous() {
        Err(error @ MapError::Refused { .. }) => println!("{error}"),
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

static CALLS: AtomicU32 = AtomicU32::new(0);

extern "C" fn with_information(
    _: i32,
    information: *mut nix::libc::siginfo_t,
    _: *mut nix::libc::c_void,
) {
    assert!(!information.is_null());
    leave_if_fault(CALLS.fetch_add(1, SeqCst));
}

extern "C" fn without_information(_: i32) {
    leave_if_fault(CALLS.fetch_add(1, SeqCst));
}

/// The second call is for the fault, which would repeat for ever.
fn leave_if_fault(calls: u32) {
    if calls == 1 {
        // SAFETY: it may be called in a signal handler, and takes a number.
        unsafe { nix::libc::_exit(42) }
    }
}

/// The program's own handler, installed before the first mapping, gets what is not ours: a signal that was sent, and a
/// fault outside every mapping of the library.
fn chain(kind: &str, path: &str) -> Result<(), Box<dyn std::error::Error>> {
    let (handler, flags) = match kind {
        "information" => (SigHandler::SigAction(with_information), SaFlags::SA_SIGINFO),
        "plain" => (SigHandler::Handler(without_information), SaFlags::empty()),
        "once" => (
            SigHandler::Handler(without_information),
            SaFlags::SA_RESETHAND,
        ),
        "ignore" => (SigHandler::SigIgn, SaFlags::empty()),
        _ => (SigHandler::SigDfl, SaFlags::empty()),
    };
    // SAFETY: the handlers count and leave, both of which may be done in a signal handler.
    unsafe {
        sigaction(
            Signal::SIGBUS,
            &SigAction::new(handler, flags, SigSet::empty()),
        )
    }?;
    let file = open(path)?;
    file.set_len(page_size() as u64)?;
    guarded_cut_short(&file)?;
    assert_eq!(
        CALLS.load(SeqCst),
        0,
        "our own fault does not reach the program's handler"
    );
    if kind != "default" {
        nix::sys::signal::raise(Signal::SIGBUS)?;
        println!("calls: {}", CALLS.load(SeqCst));
        std::io::stdout().flush()?;
    }
    file.set_len(page_size() as u64)?;
    raw_cut_short(&file)
}

/// How much of a file the kernel says is in memory.
fn resident(path: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mapping = MapOptions::new().read_only().map_file(&File::open(path)?)?;
    let found = mapping.residency(..)?;
    println!("{} of {}", found.resident(), found.pages.len());
    Ok(())
}

/// What a process started by exec finds of the memfd that it was passed.
fn after_exec(descriptor: i32) -> Result<(), Box<dyn std::error::Error>> {
    // SAFETY: the one who started this process passed the descriptor for this use alone.
    let file = unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(descriptor) };
    let mapping = MapOptions::new().map_file(&file.as_fd())?;
    println!("{}", String::from_utf8(mapping.to_vec(0..5)?)?);
    mapping.write_at(0, b"child")?;
    Ok(())
}

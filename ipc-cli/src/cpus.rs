//! Two CPUs for two processes.

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Two CPUs that this process may run on, on different cores where there are such. `None` if it has only one.
pub(crate) fn two() -> Result<Option<[usize; 2]>> {
    let allowed = sched_getaffinity(None).context("cannot ask for the allowed CPUs")?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&cpu| allowed.is_set(cpu))
        .collect();
    let [first, others @ ..] = &cpus[..] else {
        return Ok(None);
    };
    let elsewhere = others.iter().find(|&&other| core(other) != core(*first));
    Ok(elsewhere.or(others.first()).map(|&second| [*first, second]))
}

/// Keeps this process on one CPU.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot move to CPU {cpu}"))
}

/// The CPUs that share a core with `cpu`, as the kernel lists them; empty where it does not say.
fn core(cpu: usize) -> String {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    std::fs::read_to_string(path).unwrap_or_default()
}

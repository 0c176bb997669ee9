//! The machine that the figures are from.

use std::fs;

use serde::Serialize;

/// What tells machines apart, as far as figures go.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Machine {
    /// The processor, as it names itself.
    pub processor: String,
    /// CPUs that may be used.
    pub cpus: Vec<usize>,
    /// The two that pairs of processes run on.
    pub pair: Vec<usize>,
    /// How these two lie to each other.
    pub topology: String,
    /// Caches of the first CPU, each with its size and the CPUs that share it.
    pub caches: Vec<String>,
    /// Whether it is a virtual one.
    pub virtual_machine: bool,
    /// The kernel.
    pub kernel: String,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// What a file says, trimmed; nothing if there is none.
fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| String::new(), |text| text.trim().to_owned())
}

impl Machine {
    /// This one.
    pub fn here(cpus: &[usize]) -> Self {
        let info = read("/proc/cpuinfo");
        let line = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':'))
                .map_or("", |(_, value)| value.trim())
                .to_owned()
        };
        let pair: Vec<usize> = cpus.iter().copied().take(2).collect();
        let kernel = format!("Linux {}", read("/proc/sys/kernel/osrelease"));
        let total = read("/proc/meminfo");
        let total = total
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"));
        let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            processor: line("model name"),
            cpus: cpus.to_vec(),
            topology: topology(&pair),
            caches: caches(pair.first().copied().unwrap_or(0)),
            pair,
            virtual_machine: line("flags").split(' ').any(|flag| flag == "hypervisor"),
            kernel,
            memory_bytes: kib.unwrap_or(0) * 1024,
        }
    }
}

/// How two CPUs lie to each other, as far as the machine tells.
fn topology(pair: &[usize]) -> String {
    let of = |cpu: &usize, what: &str| {
        read(&format!("/sys/devices/system/cpu/cpu{cpu}/topology/{what}"))
    };
    let same = |what: &str| {
        let found: Vec<String> = pair.iter().map(|cpu| of(cpu, what)).collect();
        found
            .windows(2)
            .all(|two| two[0] == two[1] && !two[0].is_empty())
    };
    let shared_l3 = pair.windows(2).all(|two| {
        let list = read(&format!(
            "/sys/devices/system/cpu/cpu{}/cache/index3/shared_cpu_list",
            two[0]
        ));
        contains(&list, two[1])
    });
    if same("core_id") && same("physical_package_id") {
        "two threads of one core".into()
    } else if shared_l3 {
        "two cores with a common third-level cache".into()
    } else if same("physical_package_id") {
        "two cores of one socket".into()
    } else {
        "two sockets".into()
    }
}

/// Whether a list such as "0-3,6" has a number.
fn contains(list: &str, number: usize) -> bool {
    list.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&number),
            _ => false,
        }
    })
}

fn caches(cpu: usize) -> Vec<String> {
    let at = |index: usize, what: &str| {
        read(&format!(
            "/sys/devices/system/cpu/cpu{cpu}/cache/index{index}/{what}"
        ))
    };
    (0..8)
        .filter(|index| !at(*index, "level").is_empty())
        .map(|index| {
            let (level, kind) = (at(index, "level"), at(index, "type"));
            let (size, cpus) = (at(index, "size"), at(index, "shared_cpu_list"));
            format!("L{level} {kind} {size}, CPUs {cpus}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Would catch a pair that is said to share a cache which it does not.
    #[test]
    fn lists_of_cpus_are_read() {
        assert!(contains("0-3,6", 2) && contains("0-3,6", 6) && contains("1", 1));
        assert!(!contains("0-3,6", 4) && !contains("", 0) && !contains("1", 0));
    }
}

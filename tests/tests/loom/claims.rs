//! Claims, and what they need.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use ipc_core::participant::ParticipantId;
use ipc_tests::loom_memory::orderings::{Orderings, Weakening};

macro_rules! files {
    ($($module:literal = $path:literal,)*) => {
        [$(($module, $path, include_str!(concat!("../../../", $path)))),*]
    };
}

/// Where the orderings of each module are, and what was compiled of them.
const FILES: &[(&str, &str, &str)] = &files! {
    "event" = "ipc-core/src/event.rs",
    "participant" = "ipc-core/src/participant.rs",
    "arrivals" = "ipc-core/src/participant/arrivals.rs",
    "vigil" = "ipc-core/src/memory/vigil.rs",
    "lock" = "ipc-core/src/sync/lock.rs",
    "rwlock" = "ipc-core/src/sync/rwlock.rs",
    "semaphore" = "ipc-core/src/sync/semaphore.rs",
    "barrier" = "ipc-core/src/sync/barrier.rs",
    "latest" = "ipc-core/src/sync/latest.rs",
    "role" = "ipc-ring/src/role.rs",
    "spsc" = "ipc-ring/src/spsc/algorithm.rs",
    "mpmc" = "ipc-ring/src/mpmc/shared.rs",
    "mpmc_producer" = "ipc-ring/src/mpmc/producer.rs",
    "mpmc_consumer" = "ipc-ring/src/mpmc/consumer.rs",
    "bytes_lane" = "ipc-ring/src/bytes/lane.rs",
    "bytes_sender" = "ipc-ring/src/bytes/sender.rs",
    "bytes_receiver" = "ipc-ring/src/bytes/receiver.rs",
    "broadcast" = "ipc-ring/src/broadcast/algorithm.rs",
    "broadcast_readers" = "ipc-ring/src/broadcast/readers.rs",
    "broadcast_bytes_mark" = "ipc-ring/src/broadcast_bytes/mark.rs",
    "broadcast_bytes_sender" = "ipc-ring/src/broadcast_bytes/sender.rs",
    "broadcast_bytes_readers" = "ipc-ring/src/broadcast_bytes/readers.rs",
    "audience" = "ipc-ring/src/broadcast/audience.rs",
};

/// What a model shows.
pub(crate) struct Claim {
    /// Panics where the claim is broken, in a memory that forgets an ordering.
    pub(crate) model: fn(Option<Weakening>),
    /// Orderings without which the claim is broken, as `module::function: part`.
    pub(crate) needs: &'static [&'static str],
}

impl Claim {
    /// Demands that the model holds, and that it fails without each of the orderings that it needs.
    pub(crate) fn prove(&self) {
        let (outcome, told) = explore(self.model, None);
        println!("holds: {told}");
        if let Err(what) = outcome {
            panic!("{what}");
        }
        if let Ok(module) = std::env::var("LOOM_SURVEY") {
            return self.survey(&module);
        }
        let mut idle = Vec::new();
        for &name in self.needs {
            let (module, name) = split(name);
            let weakening = orderings(module).without(name);
            let (outcome, told) = explore(self.model, Some(weakening));
            match outcome {
                Ok(()) => idle.push(name),
                // Going round for ever is no answer: the model should have looked.
                Err(what) if what.contains("exceeded maximum") => panic!("without {name}: {what}"),
                Err(_) => println!("fails without {module}::{name}: {told}"),
            }
        }
        assert!(idle.is_empty(), "holds without {idle:?} too");
    }

    /// Tells of every ordering in a module whether the model needs it.
    fn survey(&self, module: &str) {
        let orderings = orderings(module);
        for name in orderings.names() {
            let (outcome, told) = explore(self.model, Some(orderings.without(&name)));
            if let Err(what) = outcome {
                println!("needs {module}::{name}: {told}: {what:.120}");
            }
        }
    }
}

/// Demands that every part of an ordering in a module is needed by a claim, or listed with the reason why none can.
pub(crate) fn cover(module: &str, claims: &[&[Claim]], not_needed: &[(&str, &str)]) {
    let needed = claims
        .iter()
        .copied()
        .flatten()
        .flat_map(|claim| claim.needs);
    let needed: Vec<_> = needed
        .map(|name| split(name))
        .filter(|(of, _)| *of == module)
        .map(|(_, name)| name)
        .collect();
    let names = orderings(module).names();
    for name in &names {
        let listed = not_needed.iter().any(|(known, _)| known == name);
        assert!(
            needed.contains(&&**name) != listed,
            "no claim needs {module}::{name}, or one does, and it is listed"
        );
    }
    for (name, _) in not_needed {
        assert!(
            names.iter().any(|known| known == name),
            "no {module}::{name}"
        );
    }
}

/// A participant.
pub(crate) fn id(number: u64) -> ParticipantId {
    ParticipantId::new(number).expect("a number")
}

fn split(name: &'static str) -> (&'static str, &'static str) {
    name.split_once("::").expect("module::function: part")
}

fn orderings(module: &str) -> Orderings {
    let found = FILES.iter().find(|(known, ..)| *known == module);
    let (_, path, source) = found.expect("a module in the list");
    Orderings::of(path, source)
}

/// Runs every execution of a model, and tells how many there were.
fn explore(
    model: fn(Option<Weakening>),
    weakening: Option<Weakening>,
) -> (Result<(), String>, String) {
    thread_local! {
        static SILENT: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !SILENT.get() {
                loud(info);
            }
        }));
    });
    let count = Arc::new(AtomicU32::new(0));
    let counted = count.clone();
    let start = Instant::now();
    // A model is expected to fail without an ordering.
    SILENT.set(weakening.is_some());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        loom::model(move || {
            counted.fetch_add(1, Relaxed);
            model(weakening);
        });
    }));
    SILENT.set(false);
    let outcome = outcome.map_err(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| text.to_string()));
        text.unwrap_or_default()
    });
    let seconds = start.elapsed().as_secs_f64();
    (
        outcome,
        format!("{} executions, {seconds:.1} s", count.load(Relaxed)),
    )
}

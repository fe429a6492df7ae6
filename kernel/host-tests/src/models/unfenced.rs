//! The protocols without their fences.

pub(crate) mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

    pub(crate) fn fence(_: Ordering) {}
}
#[allow(dead_code, reason = "the kernel asks more than the models do")]
#[path = "../../../src/stacks/epochs.rs"]
pub(crate) mod epochs;
#[allow(dead_code, reason = "the kernel asks more than the models do")]
#[path = "../../../src/sync/rcu/periods.rs"]
pub(crate) mod periods;
#[path = "../../../src/task/flags/words.rs"]
pub(crate) mod words;

impl<const CPUS: usize> periods::Periods<CPUS> {
    pub(crate) fn new(passed: [u64; CPUS]) -> Self {
        let word = atomic::AtomicU64::new;
        Self { begun: word(0), over: word(0), passed: passed.map(word), known: atomic::AtomicUsize::new(CPUS) }
    }
}

impl epochs::Epochs<2> {
    /// Nobody has come yet.
    pub(crate) fn new() -> Self {
        let word = atomic::AtomicU64::new;
        Self { begun: word(0), over: word(0), passed: [Self::NEVER_CAME; 2].map(word) }
    }
}

impl words::TaskWords {
    pub(crate) fn new() -> Self {
        Self { home: atomic::AtomicU32::new(0), on_cpu: atomic::AtomicU32::new(0) }
    }
}

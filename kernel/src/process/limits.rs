//! What a process may use at most: `setrlimit`'s limits, each a soft and a hard one.
//!
//! Four are honoured where what they limit is handed out: threads, open files, the stack and all of the memory. The others can be
//! set and read, as on Linux, and limit nothing: what they are about is not there.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::tree;

/// No limit.
pub(crate) const INFINITE: u64 = u64::MAX;

/// What is limited, by Linux's numbers.
const STACK: usize = 3;
const NPROC: usize = 6;
const NOFILE: usize = 7;
const ADDRESS_SPACE: usize = 9;
/// How many limits Linux has.
const COUNT: usize = 16;

/// Those that are kept, and what they are at first.
const KEPT: [(usize, u64, u64); 4] = [
    (STACK, 8 << 20, INFINITE),
    (NPROC, INFINITE, INFINITE),
    (NOFILE, 1024, 1024),
    (ADDRESS_SPACE, INFINITE, INFINITE),
];

/// Where the limit of threads is among them: it is asked for often.
const THREADS: usize = 1;
const _: () = assert!(KEPT[THREADS].0 == NPROC);

/// The limits of a process.
#[derive(Debug)]
pub(crate) struct Limits([(AtomicU64, AtomicU64); KEPT.len()]);

impl Limits {
    pub(super) const fn new() -> Self {
        let mut limits = [const { (AtomicU64::new(INFINITE), AtomicU64::new(INFINITE)) }; KEPT.len()];
        let mut index = 0;
        while index < KEPT.len() {
            limits[index] = (AtomicU64::new(KEPT[index].1), AtomicU64::new(KEPT[index].2));
            index += 1;
        }
        Self(limits)
    }

    pub(super) fn copy_from(&self, other: &Self) {
        for (to, from) in self.0.iter().zip(&other.0) {
            to.0.store(from.0.load(Relaxed), Relaxed);
            to.1.store(from.1.load(Relaxed), Relaxed);
        }
    }

    fn place(&self, number: usize) -> Option<&(AtomicU64, AtomicU64)> {
        KEPT.iter().position(|&(kept, ..)| kept == number).and_then(|index| self.0.get(index))
    }

    /// The soft and the hard limit with Linux's `number`, if there is one.
    pub(crate) fn get(&self, number: usize) -> Option<(u64, u64)> {
        match self.place(number) {
            Some((soft, hard)) => Some((soft.load(Relaxed), hard.load(Relaxed))),
            None => (number < COUNT).then_some((INFINITE, INFINITE)),
        }
    }

    /// Sets a limit. Whoever asks may raise the hard one: all programs are root's.
    pub(crate) fn set(&self, number: usize, soft: u64, hard: u64) {
        if let Some(place) = self.place(number) {
            place.0.store(soft, Relaxed);
            place.1.store(hard, Relaxed);
        }
    }

    fn soft(&self, number: usize) -> usize {
        self.get(number).map_or(usize::MAX, |(soft, _)| soft as usize)
    }

    /// How many threads there may be, of all processes, when this one makes another.
    pub(crate) fn threads(&self) -> usize {
        (self.0[THREADS].0.load(Relaxed) as usize).min(tree::most_threads())
    }

    /// How many files may be open.
    pub(crate) fn files(&self) -> usize {
        self.soft(NOFILE)
    }

    /// How large the first thread's stack may become, in bytes.
    #[expect(dead_code, reason = "stacks have one size so far")]
    pub(crate) fn stack(&self) -> usize {
        self.soft(STACK)
    }

    /// How much may be mapped, in bytes.
    #[expect(dead_code, reason = "mappings are not added up so far")]
    pub(crate) fn address_space(&self) -> usize {
        self.soft(ADDRESS_SPACE)
    }
}

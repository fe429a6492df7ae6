//! What is counted: by the processes, in words that they share, and by the reference kernel, in a file.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use vmstack_programs::checks::shared_words;
use vmstack_programs::{CACHE, cpus};

/// Words that all processes of a pass have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ledger(&'static [AtomicU32; 1024]);

impl Ledger {
    pub(crate) fn new() -> io::Result<Self> {
        shared_words().map(Self).map_err(io::Error::other)
    }

    const fn alive(&self) -> &AtomicU32 {
        &self.0[0]
    }

    const fn most(&self) -> &AtomicU32 {
        &self.0[1]
    }

    const fn begun(&self) -> &AtomicU32 {
        &self.0[2]
    }

    const fn elsewhere(&self) -> &AtomicU32 {
        &self.0[3]
    }

    const fn badly(&self) -> &AtomicU32 {
        &self.0[4]
    }

    /// In a process, first of all: it is alive, and has a stack.
    pub(crate) fn begin(&self) {
        self.begun().fetch_add(1, Relaxed);
        let alive = self.alive().fetch_add(1, Relaxed) + 1;
        self.most().fetch_max(alive, Relaxed);
    }

    /// In a process, last of all: it ends, and was forked on the CPU `parent`.
    pub(crate) fn end(&self, parent: usize) {
        self.elsewhere().fetch_add(u32::from(cpus::here() != parent), Relaxed);
        self.alive().fetch_sub(1, Relaxed);
    }

    /// Something of the pattern could not be done.
    pub(crate) fn fail(&self) {
        self.badly().fetch_add(1, Relaxed);
    }

    /// What was counted, and nothing any more: processes, those that ended elsewhere, the most alive at once, and failures.
    pub(crate) fn take(&self) -> [u32; 4] {
        [self.begun(), self.elsewhere(), self.most(), self.badly()].map(|word| word.swap(0, Relaxed))
    }
}

/// What the kernel's file says of its task stacks. Numbers of stacks, and bytes where it is said.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Cache {
    /// Bytes of a stack.
    pub(crate) size: u64,
    pub(crate) allocated: u64,
    /// Of these, ready ones that the CPU kept.
    pub(crate) hits: u64,
    /// Of these, ready ones of the depot.
    pub(crate) from_depot: u64,
    /// Of these, ones that were made.
    pub(crate) populated: u64,
    pub(crate) released: u64,
    pub(crate) recovered: u64,
    pub(crate) unmapped: u64,
    pub(crate) retired: u64,
    /// Bytes of ready stacks.
    pub(crate) held: u64,
}

impl Cache {
    /// As it is now; none where the kernel has no such file.
    pub(crate) fn now() -> Option<Self> {
        let text = fs::read_to_string(CACHE).ok()?;
        let mut cache = Self::default();
        for line in text.lines() {
            let (name, value) = line.split_once(' ')?;
            *cache.field(name)? = value.parse().ok()?;
        }
        Some(cache)
    }

    fn field(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "size" => &mut self.size,
            "allocated" => &mut self.allocated,
            "hits" => &mut self.hits,
            "from_depot" => &mut self.from_depot,
            "populated" => &mut self.populated,
            "released" => &mut self.released,
            "recovered" => &mut self.recovered,
            "unmapped" => &mut self.unmapped,
            "retired" => &mut self.retired,
            "held" => &mut self.held,
            _ => return None,
        })
    }

    /// Stacks that tasks have, those of the dead that were not given back yet with them.
    pub(crate) const fn in_use(&self) -> u64 {
        self.allocated - self.released
    }

    /// Stacks that are unmapped and whose frames are not free yet.
    pub(crate) const fn in_flight(&self) -> u64 {
        self.unmapped - self.retired
    }
}

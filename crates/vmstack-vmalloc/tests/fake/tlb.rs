//! What CPUs remember of the page tables, and shootdowns.
//!
//! A CPU remembers each page that it touched, and of each chunk where its leaf table is: a processor caches the levels above, and may do so
//! for an address that is not mapped at all.

use std::collections::{BTreeMap, BTreeSet};

use super::tables::CHUNK;
use vmstack::Pages;

#[derive(Debug, Default)]
pub(super) struct Tlb {
    /// Page address to frame.
    pages: BTreeMap<usize, u32>,
    /// Chunk address to leaf table.
    tables: BTreeMap<usize, u32>,
}

#[derive(Debug)]
struct Shootdown {
    runs: Vec<(usize, usize)>,
    waiting: BTreeSet<usize>,
}

/// Those of all CPUs.
#[derive(Debug)]
pub(super) struct Tlbs {
    cpus: Vec<Tlb>,
    shootdowns: Vec<Shootdown>,
}

impl Tlb {
    fn forget(&mut self, (start, end): (usize, usize)) {
        self.pages.extract_if(start..end, |_, _| true).for_each(drop);
        let first_chunk = start & !(CHUNK - 1);
        self.tables.extract_if(first_chunk..end, |_, _| true).for_each(drop);
    }
}

impl Tlbs {
    pub(super) fn new(cpus: usize) -> Self {
        Self { cpus: (0..cpus).map(|_| Tlb::default()).collect(), shootdowns: Vec::new() }
    }

    pub(super) fn remember(&mut self, cpu: usize, page: usize, frame: Option<u32>, table: Option<u32>) {
        let tlb = &mut self.cpus[cpu];
        if let Some(frame) = frame {
            tlb.pages.insert(page, frame);
        }
        if let Some(table) = table {
            tlb.tables.insert(page & !(CHUNK - 1), table);
        }
    }

    pub(super) fn remembered(&self, cpu: usize, page: usize) -> Option<u32> {
        self.cpus[cpu].pages.get(&page).copied()
    }

    /// A page in `start..end` that a CPU still knows.
    pub(super) fn known_page(&self, start: usize, end: usize) -> Option<usize> {
        self.cpus.iter().find_map(|tlb| tlb.pages.range(start..end).next()).map(|(&page, _)| page)
    }

    /// Whether a CPU still knows another leaf table of the chunk at `chunk` than `table`.
    pub(super) fn knows_other_table(&self, chunk: usize, table: Option<u32>) -> bool {
        self.cpus.iter().any(|tlb| tlb.tables.get(&chunk).is_some_and(|&known| Some(known) != table))
    }

    /// Where CPUs know any of `frames`: the page and the frame.
    pub(super) fn knowing<'t>(&'t self, frames: &'t BTreeSet<u32>) -> impl Iterator<Item = (usize, u32)> + 't {
        let known = self.cpus.iter().flat_map(|tlb| &tlb.pages);
        known.filter(|(_, frame)| frames.contains(frame)).map(|(&page, &frame)| (page, frame))
    }

    pub(super) fn knows_table(&self, table: u32) -> bool {
        self.cpus.iter().any(|tlb| tlb.tables.values().any(|&known| known == table))
    }

    /// Starts to flush `runs` everywhere.
    pub(super) fn start(&mut self, runs: impl Iterator<Item = Pages>) -> usize {
        let runs = runs.map(|pages| (pages.start().get(), pages.start().get() + pages.count() * 4096)).collect();
        self.shootdowns.push(Shootdown { runs, waiting: (0..self.cpus.len()).collect() });
        self.shootdowns.len() - 1
    }

    pub(super) fn acknowledge(&mut self, which: usize, cpu: usize) {
        let shootdown = &mut self.shootdowns[which];
        shootdown.waiting.remove(&cpu);
        shootdown.runs.iter().for_each(|&run| self.cpus[cpu].forget(run));
    }

    pub(super) fn acknowledge_all(&mut self, which: usize) {
        (0..self.cpus.len()).for_each(|cpu| self.acknowledge(which, cpu));
    }

    /// CPUs that have not flushed yet.
    pub(super) fn waiting(&self, which: usize) -> &BTreeSet<usize> {
        &self.shootdowns[which].waiting
    }

    /// How many shootdowns there were.
    pub(super) fn started(&self) -> usize {
        self.shootdowns.len()
    }
}

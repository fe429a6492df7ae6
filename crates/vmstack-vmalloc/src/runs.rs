//! Free runs of chunks: found, cut and merged in constant time.
//!
//! This is the global structure under the size classes. Linux keeps free addresses in a red-black tree that is augmented by the longest run below
//! each node; a search there is logarithmic, and each step of it and of the rebalancing touches a node elsewhere in memory. Here free runs lie
//! on *segregated lists*, by length (Masmano, Ripoll, Crespo and Real's TLSF, ECRTS 2004), and a bitmap says which lists have any:
//!
//! ```text
//!   length   1   2   3  ...  15   16-17  18-19 ... 30-31   32-35 ...
//!   list     1   2   3  ...  15     16     17  ...   23      24  ...     eight for each power of two
//! ```
//!
//! A search looks for the first list of which every run is long enough: a few instructions, however many areas there are. The price is that a run
//! longer than 15 chunks is passed over by a request which is as long but for an eighth; so when nothing else is found, the list that may have one is
//! searched, up to a few runs. Neighbours are found by *boundary tags* (Knuth, volume 1, 2.5): the first and the last chunk of
//! a free run say how long it is.
//!
//! Everything here is under the central lock.

use crate::chunk::{Chunk, State};
use crate::layout::ChunkIndex;
use crate::meta::Chunks;
use crate::sync::{AtomicU32, Ordering};

/// Below this, each length has a list.
const EXACT: u32 = 16;
/// Lists between a power of two and the next.
const STEPS: u32 = 8;
const LISTS: usize = 16 + 19 * 8;
const WORDS: usize = LISTS.div_ceil(64);
/// How many runs are tried on a list of which some may be too short.
const TRIED: usize = 16;

/// Free runs of chunks, by length.
#[derive(Debug)]
pub(crate) struct Runs {
    /// The first run of each list, plus one; zero: none.
    heads: [u32; LISTS],
    /// Which lists have any.
    used: [u64; WORDS],
    /// How many chunks are free.
    pub(crate) chunks: u32,
}

/// A run of chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) start: ChunkIndex,
    pub(crate) len: u32,
}

/// How a run is to lie: its first chunk's number, plus `base`, is a multiple of `align`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fit {
    pub(crate) len: u32,
    /// A power of two.
    pub(crate) align: u32,
    pub(crate) base: u32,
}

impl Fit {
    /// Of one chunk, anywhere.
    pub(crate) const ONE: Self = Self { len: 1, align: 1, base: 0 };

    /// The first chunk from `start` on that is aligned so.
    pub(crate) const fn first_from(self, start: ChunkIndex) -> ChunkIndex {
        let behind = start.get().wrapping_add(self.base) & (self.align - 1);
        ChunkIndex::new(start.get() + (self.align.wrapping_sub(behind) & (self.align - 1)))
    }

    /// The part of `run` that is as it is to be, if it has one.
    fn part(self, run: Run) -> Option<Run> {
        let start = self.first_from(run.start);
        let fits = start.get() + self.len <= run.start.get() + run.len;
        fits.then_some(Run { start, len: self.len })
    }
}

/// The list that a run of `len` chunks is on.
const fn list_of(len: u32) -> usize {
    if len < EXACT {
        return len as usize;
    }
    let above = len.ilog2();
    let step = (len >> (above - STEPS.ilog2())) % STEPS;
    (EXACT + (above - EXACT.ilog2()) * STEPS + step) as usize
}

/// The first list of which every run has `len` chunks at least.
const fn list_from(len: u32) -> usize {
    if len < EXACT {
        return len as usize;
    }
    list_of(len + (1 << (len.ilog2() - STEPS.ilog2())) - 1)
}

impl Runs {
    pub(crate) const fn new() -> Self {
        Self { heads: [0; LISTS], used: [0; WORDS], chunks: 0 }
    }

    /// Takes a run of chunks that lies as `fit` says.
    pub(crate) fn take(&mut self, fit: Fit, chunks: &impl Chunks) -> Option<Run> {
        let found = self.first_run(list_from(fit.len + fit.align - 1)).or_else(|| self.search(fit, chunks))?;
        self.take_from(found, fit, chunks)
    }

    /// Takes chunks that lie as `fit` says out of the run that begins with `found`. What is cut off stays free.
    pub(crate) fn take_from(&mut self, found: ChunkIndex, fit: Fit, chunks: &impl Chunks) -> Option<Run> {
        let part = fit.part(run_at(found, chunks))?;
        let run = self.remove(found, chunks);
        let (before, end) = (part.start.get() - run.start.get(), run.start.up(run.len));
        self.insert(Run { start: run.start, len: before }, chunks);
        let after = part.start.up(part.len);
        self.insert(Run { start: after, len: end.get() - after.get() }, chunks);
        Some(part)
    }

    /// The first run of the first list from `list` on that has any.
    fn first_run(&self, list: usize) -> Option<ChunkIndex> {
        let mut word = list / 64;
        let mut bits = self.used.get(word)? & (u64::MAX << (list % 64));
        while bits == 0 {
            word += 1;
            bits = *self.used.get(word)?;
        }
        self.head(word * 64 + bits.trailing_zeros() as usize)
    }

    fn head(&self, list: usize) -> Option<ChunkIndex> {
        self.heads[list].checked_sub(1).map(ChunkIndex::new)
    }

    /// A run that will do, among those that may be too short or lie wrong.
    fn search(&self, fit: Fit, chunks: &impl Chunks) -> Option<ChunkIndex> {
        let lists = list_of(fit.len)..=list_of(fit.len + fit.align - 1).min(LISTS - 1);
        lists.filter_map(|list| self.search_list(list, fit, chunks)).next()
    }

    fn search_list(&self, list: usize, fit: Fit, chunks: &impl Chunks) -> Option<ChunkIndex> {
        let follow = |at: &ChunkIndex| link(&chunks.chunk(*at).next);
        let mut runs = core::iter::successors(self.head(list), follow).take(TRIED);
        runs.find(|&start| fit.part(run_at(start, chunks)).is_some())
    }

    /// Gives back a run whose chunks say that they are free. It is merged with its neighbours, if they are: `bounds` says where there are any.
    pub(crate) fn give(&mut self, run: Run, bounds: (u32, u32), chunks: &impl Chunks) {
        let Run { mut start, mut len } = run;
        if start.get() > bounds.0
            && let below = chunks.chunk(ChunkIndex::new(start.get() - 1))
            && below.state() == State::Free
        {
            start = ChunkIndex::new(start.get() - below.run.load(Ordering::Relaxed));
            len += self.remove(start, chunks).len;
        }
        let end = run.start.up(run.len);
        if end.get() < bounds.1 && chunks.chunk(end).state() == State::Free {
            len += self.remove(end, chunks).len;
        }
        self.insert(Run { start, len }, chunks);
    }

    /// The first chunk of the free run that ends just below number `end`, or `end` if none does. There is no chunk below number `first`.
    pub(crate) fn start_of_run_below(&self, end: u32, first: u32, chunks: &impl Chunks) -> ChunkIndex {
        let below = (end > first).then(|| chunks.chunk(ChunkIndex::new(end - 1)));
        let run =
            below.filter(|chunk| chunk.state() == State::Free).map_or(0, |chunk| chunk.run.load(Ordering::Relaxed));
        ChunkIndex::new(end - run)
    }

    /// Puts a run on its list. An empty one is nothing.
    fn insert(&mut self, run: Run, chunks: &impl Chunks) {
        if run.len == 0 {
            return;
        }
        let (first, list) = (chunks.chunk(run.start), list_of(run.len));
        first.run.store(run.len, Ordering::Relaxed);
        chunks.chunk(run.start.up(run.len - 1)).run.store(run.len, Ordering::Relaxed);
        push(&mut self.heads[list], run.start, chunks);
        self.used[list / 64] |= 1 << (list % 64);
        self.chunks += run.len;
    }

    /// Takes the run that begins with `start` off its list.
    fn remove(&mut self, start: ChunkIndex, chunks: &impl Chunks) -> Run {
        let run = run_at(start, chunks);
        let list = list_of(run.len);
        unlink(&mut self.heads[list], start, chunks);
        if self.heads[list] == 0 {
            self.used[list / 64] &= !(1 << (list % 64));
        }
        self.chunks -= run.len;
        run
    }

    /// The longest free run, in chunks; how many runs there are. For a measure of fragmentation: its time grows with the number of runs.
    pub(crate) fn measure(&self, chunks: &impl Chunks) -> (u32, u32) {
        let lists = (0..LISTS).filter_map(|list| self.head(list));
        let runs = lists.flat_map(|head| core::iter::successors(Some(head), |at| link(&chunks.chunk(*at).next)));
        runs.fold((0, 0), |(longest, count), start| (longest.max(run_at(start, chunks).len), count + 1))
    }
}

fn run_at(start: ChunkIndex, chunks: &impl Chunks) -> Run {
    Run { start, len: chunks.chunk(start).run.load(Ordering::Relaxed) }
}

/// What a link leads to.
pub(crate) fn link(word: &AtomicU32) -> Option<ChunkIndex> {
    word.load(Ordering::Relaxed).checked_sub(1).map(ChunkIndex::new)
}

/// Puts `chunk` in front of the list that begins with `head`.
pub(crate) fn push(head: &mut u32, chunk: ChunkIndex, chunks: &impl Chunks) {
    let record: &Chunk = chunks.chunk(chunk);
    record.previous.store(0, Ordering::Relaxed);
    record.next.store(*head, Ordering::Relaxed);
    if let Some(next) = link(&record.next) {
        chunks.chunk(next).previous.store(chunk.get() + 1, Ordering::Relaxed);
    }
    *head = chunk.get() + 1;
}

/// Takes `chunk` out of the list that begins with `head`.
pub(crate) fn unlink(head: &mut u32, chunk: ChunkIndex, chunks: &impl Chunks) {
    let record = chunks.chunk(chunk);
    let next = record.next.load(Ordering::Relaxed);
    if let Some(after) = link(&record.next) {
        chunks.chunk(after).previous.store(record.previous.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    match link(&record.previous) {
        Some(before) => chunks.chunk(before).next.store(next, Ordering::Relaxed),
        None => *head = next,
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

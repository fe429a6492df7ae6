//! Frames in runs: the allocator of a vmalloc's memory.
//!
//! The memory is cut into *zones* of 512 frames, each a bitmap under a lock of its own. A CPU takes from the zone that it took from last, and
//! from the next one when that is empty; CPUs begin far from each other. Frames go back to their own zone, so two that were side by side
//! are so again, whoever gives them. No frame is kept by anybody in between, so none has to be looked for when memory is short.
//!
//! ```text
//!   zone 0  ####..####......##   zone 1 ..........   zone 2  ##.#......       # taken   . free
//!                 ^ CPU 0                                        ^ CPU 1
//!
//!   Runs { head: 5, count: 9 }      links:   5: 4 frames -> 70: 3 -> 12: 2 -> none
//! ```
//!
//! A whole run is taken where there is one that is long enough in the zone: here a run is mapped by one system call, and by one loop over
//! entries where tables are in memory. Where there is none, pieces will do: frames never have to lie side by side.
//!
//! [`Runs`] is a list through a table beside the memory, a word a frame, so giving back needs no memory (INV-FREE).
//!
//! Contexts: task, under a guard. A lock is held for a few words; no fault path takes one.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use vmstack::Cpu;

use crate::frames::FrameCount;
use crate::platform::HostedError;

/// The end of a list.
const NONE: u32 = u32::MAX;
/// The frames of a zone.
const ZONE: u32 = 512;
const WORDS: usize = (ZONE / u64::BITS) as usize;

/// Frames of a vmalloc's memory, owned; or lent ones, which are their owner's.
///
/// Having a `Runs` that is not lent means that nobody else uses, maps or hands out the frames on its list.
#[derive(Debug)]
#[must_use = "frames that are dropped are leaked"]
pub struct Runs {
    head: u32,
    count: u32,
    /// Whose they are: an allocator takes back only its own.
    table: u64,
    lent: bool,
}

impl Runs {
    /// How many frames they are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count as usize
    }

    pub(crate) const fn is_lent(&self) -> bool {
        self.lent
    }

    /// The same list, as one of lent frames.
    pub(crate) const fn set_lent(&mut self) {
        self.lent = true;
    }
}

/// Frames side by side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) first: u32,
    pub(crate) count: u32,
}

impl Run {
    pub(crate) const fn frames(self) -> core::ops::Range<u32> {
        self.first..self.first + self.count
    }
}

/// Frames that come one by one, upwards as a rule, made into runs again.
#[derive(Debug)]
pub(crate) struct Gather<'t> {
    links: &'t Links,
    list: Runs,
    last: Option<Run>,
}

impl<'t> Gather<'t> {
    /// Adds to `list`, through `links`.
    pub(crate) const fn new(links: &'t Links, list: Runs) -> Self {
        Self { links, list, last: None }
    }

    pub(crate) fn add(&mut self, frame: u32) {
        match &mut self.last {
            Some(run) if run.first + run.count == frame => run.count += 1,
            last => {
                let before = last.replace(Run { first: frame, count: 1 });
                before.into_iter().for_each(|run| self.links.push(&mut self.list, run));
            }
        }
    }

    /// The list.
    pub(crate) fn end(mut self) -> Runs {
        self.last.into_iter().for_each(|run| self.links.push(&mut self.list, run));
        self.list
    }
}

/// What stands behind each run of a list: how many frames it has, and where the next one is.
#[derive(Debug)]
pub(crate) struct Links(Box<[AtomicU64]>);

impl Links {
    pub(crate) fn new(frames: u32) -> Self {
        Self((0..frames).map(|_| AtomicU64::new(0)).collect())
    }

    pub(crate) fn word(&self, frame: u32) -> Option<&AtomicU64> {
        self.0.get(frame as usize)
    }

    /// Puts `run`, which the caller owns, in front of `list`.
    pub(crate) fn push(&self, list: &mut Runs, run: Run) {
        if let Some(link) = self.word(run.first) {
            // Relaxed, here and below: a list has one owner, and what passes it on is a lock.
            link.store(u64::from(run.count) << 32 | u64::from(list.head), Ordering::Relaxed);
            (list.head, list.count) = (run.first, list.count + run.count);
        }
    }

    /// Takes the first run of `list`.
    pub(crate) fn pop(&self, list: &mut Runs) -> Option<Run> {
        let first = list.head;
        let link = self.word(first)?.load(Ordering::Relaxed);
        let count = (link >> 32) as u32;
        (list.head, list.count) = (link as u32, list.count.wrapping_sub(count));
        Some(Run { first, count })
    }

    /// The runs of `list`, which stays as it is.
    fn runs(&self, list: &Runs) -> impl Iterator<Item = Run> {
        let mut head = list.head;
        core::iter::from_fn(move || {
            let link = self.word(head)?.load(Ordering::Relaxed);
            let first = core::mem::replace(&mut head, link as u32);
            Some(Run { first, count: (link >> 32) as u32 })
        })
    }
}

/// Which frames of a zone are free: a set bit is a free frame.
#[derive(Debug)]
struct Bits([u64; WORDS]);

impl Bits {
    /// The first bit from `from` on that is `set`, or the end of the zone.
    fn seek(&self, from: u32, set: bool) -> u32 {
        let mut at = from;
        while let Some(&word) = self.0.get((at / u64::BITS) as usize) {
            let rest = (if set { word } else { !word }) >> (at % u64::BITS);
            if rest != 0 {
                return at + rest.trailing_zeros();
            }
            at = (at / u64::BITS + 1) * u64::BITS;
        }
        ZONE
    }

    /// The runs of free frames, as long as they can be, lowest first.
    fn runs(&self) -> impl Iterator<Item = Run> {
        let mut from = 0;
        core::iter::from_fn(move || {
            let first = self.seek(from, true);
            from = self.seek(first, false);
            (first < ZONE).then_some(Run { first, count: from - first })
        })
    }

    /// A run of `want` free frames, or the first one that there is.
    fn best(&self, want: u32) -> Option<Run> {
        let whole = self.runs().find(|run| run.count >= want);
        whole.or_else(|| self.runs().next()).map(|run| Run { count: run.count.min(want), ..run })
    }

    /// Makes the frames of `run` free, or not. They all were the opposite.
    fn flip(&mut self, run: Run) {
        let (mut at, end) = (run.first, run.first + run.count);
        while at < end {
            let here = (u64::BITS - at % u64::BITS).min(end - at);
            if let Some(word) = self.0.get_mut((at / u64::BITS) as usize) {
                *word ^= (u64::MAX >> (u64::BITS - here)) << (at % u64::BITS);
            }
            at += here;
        }
    }
}

/// A zone: on cache lines of its own, with the next one that the processor fetches beside it.
#[derive(Debug)]
#[repr(align(128))]
struct Zone {
    /// How many frames are free: a look at it tells whether to lock.
    left: AtomicU32,
    bits: Mutex<Bits>,
}

impl Zone {
    fn lock(&self) -> MutexGuard<'_, Bits> {
        // Nothing under this lock unwinds.
        self.bits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bits, unless somebody else has them and this one is not `patient`.
    fn bits(&self, patient: bool) -> Option<MutexGuard<'_, Bits>> {
        match self.bits.try_lock() {
            Ok(bits) => Some(bits),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => patient.then(|| self.lock()),
        }
    }

    /// Takes up to `want` free frames, run by run. None, if somebody else is here and this one is not `patient`.
    fn take(&self, want: u32, patient: bool, mut take: impl FnMut(Run)) -> u32 {
        if self.left.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let Some(mut bits) = self.bits(patient) else { return 0 };
        let mut taken = 0;
        while let Some(run) = bits.best(want - taken).filter(|_| taken < want) {
            bits.flip(run);
            taken += run.count;
            take(run);
        }
        self.left.fetch_sub(taken, Ordering::Relaxed);
        taken
    }

    fn give(&self, run: Run) {
        self.lock().flip(run);
        self.left.fetch_add(run.count, Ordering::Relaxed);
    }
}

/// From which zone a CPU took last.
#[derive(Debug)]
#[repr(align(128))]
struct Home(AtomicU32);

/// The frames of a vmalloc's memory.
#[derive(Debug)]
pub(crate) struct RunTable {
    id: u64,
    frames: u32,
    zones: Box<[Zone]>,
    homes: Box<[Home]>,
    pub(crate) links: Links,
    /// Frames that somebody held, so that they may not read as zero: a bit each.
    used: Box<[AtomicU64]>,
}

impl RunTable {
    /// `frames` free frames that were never used, for `cpus` CPUs. `id` is no other table's.
    pub(crate) fn new(frames: u32, cpus: usize, id: u64) -> Self {
        let count = frames.div_ceil(ZONE);
        let zone = |first: u32| {
            let run = Run { first: 0, count: ZONE.min(frames - first) };
            let mut bits = Bits([0; WORDS]);
            bits.flip(run);
            Zone { left: AtomicU32::new(run.count), bits: Mutex::new(bits) }
        };
        Self {
            id,
            frames,
            zones: (0..count).map(|zone_number| zone(zone_number * ZONE)).collect(),
            homes: (0..cpus).map(|cpu| Home(AtomicU32::new(count * cpu as u32 / cpus as u32))).collect(),
            links: Links::new(frames),
            used: (0..frames.div_ceil(u64::BITS)).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// An empty list.
    pub(crate) const fn none(&self) -> Runs {
        Runs { head: NONE, count: 0, table: self.id, lent: false }
    }

    /// How many frames there are.
    pub(crate) const fn len(&self) -> u32 {
        self.frames
    }

    /// Takes `count` frames, near what `cpu` took last. All or none.
    pub(crate) fn take(&self, cpu: Cpu, count: usize) -> Result<Runs, HostedError> {
        let (home, zones) = (self.homes.get(cpu.index()), self.zones.len() as u32);
        let first = home.map_or(0, |home| home.0.load(Ordering::Relaxed));
        let (want, mut taken) = (u32::try_from(count).unwrap_or(u32::MAX), self.none());
        for step in 0..2 * zones {
            let number = (first + step) % zones;
            self.take_from(number, want - taken.count, step >= zones, &mut taken);
            if taken.count == want {
                home.inspect(|home| home.0.store(number, Ordering::Relaxed));
                return Ok(taken);
            }
        }
        let free = taken.count();
        self.give(taken);
        Err(HostedError::NoFrames { asked: count, free })
    }

    fn take_from(&self, number: u32, want: u32, patient: bool, taken: &mut Runs) {
        if let Some(zone) = self.zones.get(number as usize) {
            zone.take(want, patient, |run| self.links.push(taken, Run { first: number * ZONE + run.first, ..run }));
        }
    }

    /// Notes that the frames of `list` are used from now on, and calls `clear` for those that were before.
    pub(crate) fn use_frames(&self, list: &Runs, clear: impl Fn(u32)) {
        for frame in self.links.runs(list).flat_map(Run::frames) {
            let bit = 1 << (frame % u64::BITS);
            let Some(word) = self.used.get((frame / u64::BITS) as usize) else { continue };
            if word.load(Ordering::Relaxed) & bit != 0 {
                clear(frame);
            } else {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// Takes frames back, whatever they hold. Those of another memory, and lent ones, are let go.
    pub(crate) fn give(&self, mut list: Runs) {
        if list.table != self.id || list.lent {
            return;
        }
        while let Some(run) = self.links.pop(&mut list) {
            let (mut at, end) = (run.first, run.first + run.count);
            while at < end {
                let count = (ZONE - at % ZONE).min(end - at);
                if let Some(zone) = self.zones.get((at / ZONE) as usize) {
                    zone.give(Run { first: at % ZONE, count });
                }
                at += count;
            }
        }
    }

    /// Counts the frames by looking at every bit.
    pub(crate) fn recount(&self) -> FrameCount {
        let mut count = FrameCount { free: 0, taken: 0, longest_free_run: 0 };
        let mut run = 0;
        for zone in &self.zones {
            let bits = zone.lock();
            for at in 0..ZONE {
                let free = bits.seek(at, true) == at;
                run = if free { run + 1 } else { 0 };
                count.free += usize::from(free);
                count.longest_free_run = count.longest_free_run.max(run);
            }
        }
        count.taken = self.frames as usize - count.free;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::{Cpu, Gather, Run, RunTable, Runs};
    use crate::platform::HostedError;
    use core::cell::Cell;

    const CPU: Cpu = Cpu::new(0);

    fn runs(table: &RunTable, mut list: Runs) -> Vec<Run> {
        core::iter::from_fn(|| table.links.pop(&mut list)).collect()
    }

    #[test]
    fn what_is_free_in_a_row_is_taken_in_a_row_and_otherwise_in_pieces() {
        let table = RunTable::new(1000, 1, 1);
        let first = table.take(CPU, 100).expect("free");
        let second = table.take(CPU, 300).expect("free");
        assert_eq!(runs(&table, second), [Run { first: 100, count: 300 }]);
        table.give(first);
        assert_eq!(table.recount().longest_free_run, 600);
        let pieces = table.take(CPU, 650).expect("free, and not in a row");
        assert_eq!(runs(&table, pieces).iter().map(|run| run.count).sum::<u32>(), 650);
        assert_eq!(table.take(CPU, 51).err(), Some(HostedError::NoFrames { asked: 51, free: 50 }));
        assert_eq!((table.recount().free, table.recount().taken), (50, 950));
    }

    #[test]
    fn each_cpu_has_a_zone_of_its_own_while_there_are_enough() {
        let table = RunTable::new(4 * 512, 2, 1);
        let mine = runs(&table, table.take(CPU, 1).expect("free"));
        let theirs = runs(&table, table.take(Cpu::new(1), 1).expect("free"));
        assert_eq!((mine[0].first, theirs[0].first), (0, 1024));
    }

    #[test]
    fn frames_that_come_back_are_in_a_row_again_also_over_the_edge_of_a_zone() {
        let table = RunTable::new(2048, 1, 1);
        let all = table.take(CPU, 2048).expect("free");
        let mut back = Gather::new(&table.links, table.none());
        let mut frames: Vec<u32> = runs(&table, all).into_iter().flat_map(Run::frames).collect();
        frames.sort_unstable();
        frames.iter().for_each(|&frame| back.add(frame));
        let back = back.end();
        assert_eq!(table.links.runs(&back).collect::<Vec<_>>(), [Run { first: 0, count: 2048 }]);
        table.give(back);
        let count = table.recount();
        assert_eq!((count.free, count.taken, count.longest_free_run), (2048, 0, 2048));
    }

    #[test]
    fn a_frame_is_cleared_if_it_was_held_before_and_only_then() {
        let table = RunTable::new(64, 1, 1);
        let first = table.take(CPU, 40).expect("free");
        table.use_frames(&first, |frame| panic!("frame {frame} was never used"));
        table.give(first);
        let cleared = Cell::new(0);
        table.use_frames(&table.take(CPU, 64).expect("free"), |_| cleared.set(cleared.get() + 1));
        assert_eq!(cleared.get(), 40);
    }

    #[test]
    fn frames_of_another_memory_do_not_come_in() {
        let (table, other) = (RunTable::new(8, 1, 1), RunTable::new(8, 1, 2));
        table.give(other.take(CPU, 8).expect("free"));
        assert_eq!(table.recount().free, 8);
        let mut lent = table.take(CPU, 4).expect("free");
        lent.set_lent();
        table.give(lent);
        assert_eq!(table.recount().free, 4);
    }
}

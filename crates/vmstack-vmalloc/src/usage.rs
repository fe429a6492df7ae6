//! What a vmalloc has and has done: counters, each with one writer; a recount that does not look at them (INV-COUNT); and how its addresses are used.

use vmstack::Count;

/// What happened since a vmalloc was initialised, and what follows from it. Numbers of events, except where a unit is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Areas handed out.
    pub allocated: u64,
    /// Areas freed.
    pub freed: u64,
    /// Visits to what all CPUs share, because a CPU had no slot for an area.
    pub refills: u64,
    /// Pages mapped.
    pub mapped: u64,
    /// Pages unmapped.
    pub unmapped: u64,
    /// Pages whose frames went back, or to whoever lent them, after the shootdown.
    pub retired: u64,
    /// Slots and chunks unmapped, leaf tables alone included.
    pub pieces_unmapped: u64,
    /// Slots and chunks that went back after the shootdown.
    pub pieces_retired: u64,
    /// Shootdowns started.
    pub shootdowns: u64,
    /// Chunks cut into slots.
    pub cut: u64,
    /// Chunks that were cut, and given back.
    pub mended: u64,
    /// Allocations refused.
    pub refused: u64,
}

impl Usage {
    /// Areas that are alive.
    #[must_use]
    pub const fn areas(&self) -> u64 {
        self.allocated.saturating_sub(self.freed)
    }

    /// Pages that are mapped for areas now.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.mapped.saturating_sub(self.unmapped)
    }

    /// Pages whose frames wait for a shootdown, or for its end.
    #[must_use]
    pub const fn pages_waiting(&self) -> u64 {
        self.unmapped.saturating_sub(self.retired)
    }
}

/// What there is, found by walking the records of all chunks and slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Recount {
    /// Areas that are alive.
    pub areas: u64,
    /// Bytes that were asked for in them.
    pub bytes: u64,
    /// Their pages: those of reservations are not mapped by this crate.
    pub pages: u64,
    /// Of these, those of reservations.
    pub reserved_pages: u64,
    /// Areas that were freed and wait for a shootdown or its end.
    pub dying: u64,
    /// Pages of records, of whatever is kept for each CPU too.
    pub record_pages: u64,
}

/// How the addresses are used, in pages, found by walking the records of all chunks and slots.
///
/// All pages of the range are one of these: records, [`used`](Self::used), [`guards`](Self::guards), [`padding`](Self::padding),
/// [`free_slots`](Self::free_slots), [`free_runs`](Self::free_runs), [`waiting`](Self::waiting), or never used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Fragmentation {
    /// The range.
    pub range: u64,
    /// What its records may take.
    pub records: u64,
    /// Pages of areas that are alive.
    pub used: u64,
    /// One guard for each of them.
    pub guards: u64,
    /// What the size classes, the alignment and the ends of chunks leave beside them: guards too, as nothing is ever mapped there.
    pub padding: u64,
    /// Slots that are free, in chunks that are cut.
    pub free_slots: u64,
    /// Free runs of chunks.
    pub free_runs: u64,
    /// Slots and chunks that are freed and wait for a shootdown, or are on their way from one use to another.
    pub waiting: u64,
    /// What was never used.
    pub fresh: u64,
    /// How many free runs there are.
    pub runs: u64,
    /// The longest of them.
    pub longest_run: u64,
    /// Chunks that are cut into slots.
    pub cut_chunks: u64,
    /// Chunks of areas that have them alone.
    pub whole_chunks: u64,
    /// Of these, the ones that a large page maps.
    pub large_chunks: u64,
}

impl Fragmentation {
    /// What of the addresses that areas hold is lost to guards, alignment and size classes, in thousandths.
    #[must_use]
    pub const fn lost_permille(&self) -> u64 {
        permille(self.guards + self.padding, self.used + self.guards + self.padding)
    }

    /// What of the free addresses that were used before could not serve one request for all of them, in thousandths: what is in free slots, and in
    /// other runs than the longest.
    #[must_use]
    pub const fn scattered_permille(&self) -> u64 {
        let free = self.free_slots + self.free_runs;
        permille(free.saturating_sub(self.longest_run), free)
    }
}

const fn permille(part: u64, whole: u64) -> u64 {
    match whole {
        0 => 0,
        _ => part * 1000 / whole,
    }
}

/// One CPU's share.
#[derive(Debug)]
pub(crate) struct CpuCounters {
    pub(crate) allocated: Count,
    pub(crate) freed: Count,
    pub(crate) refills: Count,
    pub(crate) mapped: Count,
    pub(crate) unmapped: Count,
    pub(crate) retired: Count,
    pub(crate) pieces_unmapped: Count,
    pub(crate) pieces_retired: Count,
    pub(crate) shootdowns: Count,
    pub(crate) cut: Count,
    pub(crate) mended: Count,
    pub(crate) refused: Count,
}

impl CpuCounters {
    pub(crate) const fn new() -> Self {
        Self {
            allocated: Count::new(),
            freed: Count::new(),
            refills: Count::new(),
            mapped: Count::new(),
            unmapped: Count::new(),
            retired: Count::new(),
            pieces_unmapped: Count::new(),
            pieces_retired: Count::new(),
            shootdowns: Count::new(),
            cut: Count::new(),
            mended: Count::new(),
            refused: Count::new(),
        }
    }

    pub(crate) fn add_to(&self, sum: &mut Usage) {
        sum.allocated += self.allocated.get();
        sum.freed += self.freed.get();
        sum.refills += self.refills.get();
        sum.mapped += self.mapped.get();
        sum.unmapped += self.unmapped.get();
        sum.retired += self.retired.get();
        sum.pieces_unmapped += self.pieces_unmapped.get();
        sum.pieces_retired += self.pieces_retired.get();
        sum.shootdowns += self.shootdowns.get();
        sum.cut += self.cut.get();
        sum.mended += self.mended.get();
        sum.refused += self.refused.get();
    }
}

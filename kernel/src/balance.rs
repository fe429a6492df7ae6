//! Everything that is handed out, counted again by looking at it (INV-COUNT).

use vmstack::{Geometry, StackArea, VirtRange};

use crate::arch::layout::PAGE_SIZE;
use crate::mm::{frames, heap, tables};
use crate::stacks::{AREAS, DEPTHS, EDGES, Kernel, TASKS};
use crate::task::{self, reference, sched};
use crate::vmalloc::{self, VMALLOC};
use crate::{crash, fact, oops};

/// What is there, found by looking at every frame, table and record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Balance {
    /// Free frames, the heap's, the task structs', and the areas' own: mapped, parked, or page tables.
    pub(crate) frames: usize,
    /// Owners that frames have beside their first ones: those of users' memory after a fork.
    owners: usize,
    /// Frames that are mapped a second time.
    lent: usize,
    /// What the vmalloc holds.
    vmalloc: Areas,
    /// Page tables of the stack areas.
    pub(crate) tables: usize,
    /// Stacks that are handed out, less the tasks that there are, and less those that the crash scripts keep.
    pub(crate) slots_without_task: usize,
    /// Tasks that are not dead, idle ones apart.
    tasks: usize,
    /// Bytes of the heap that are handed out.
    heap: usize,
    /// Bytes of the heap that frames of killed tasks may have owned.
    lost: usize,
    /// Reports that were taken.
    reports: usize,
}

/// How often a count is begun anew that stacks came or went under, a tick apart.
const TRIES: usize = 100;

impl Balance {
    /// Counts everything while no stack is on its way between an area and the frame allocator: what lies idle goes there by itself.
    ///
    /// # Context
    ///
    /// Tasks that may wait.
    pub(crate) fn take() -> Self {
        for _ in 0..TRIES {
            let before = Traffic::now();
            let balance = Self::count();
            if before.is_still() && before == Traffic::now() {
                return balance;
            }
            sched::sleep_until(sched::ticks() + 1);
        }
        Self::count()
    }

    fn count() -> Self {
        let census = areas().map(|range| tables::kernel().census(range));
        let (mapped, tables) =
            census.fold((0, 0), |(mapped, tables), census| (mapped + census.leaves, tables + census.tables));
        let in_areas = mapped + AREAS.iter().map(|area| in_flight(area)).sum::<usize>();
        let (lent, areas) = (frames::recount_lent(), tables::kernel().census(VMALLOC.range()));
        let vmalloc = (areas.bytes / PAGE_SIZE).saturating_sub(lent);
        let held = [&TASKS, &EDGES].into_iter().chain(&DEPTHS).map(|area| {
            let slots = area.recount();
            slots.live + slots.dead + slots.leaked
        });
        let tasks = sched::tasks_alive();
        Self {
            frames: frames::recount()
                + in_areas
                + tables
                + vmalloc
                + areas.tables
                + heap::frames()
                + reference::frames(),
            owners: frames::recount_owners(),
            lent,
            vmalloc: Areas::count(vmalloc),
            tables,
            slots_without_task: held
                .sum::<usize>()
                .saturating_sub(tasks + crash::kept_stacks() + task::leaked_stacks()),
            tasks,
            heap: heap::used(),
            lost: heap::lost().bytes,
            reports: oops::count(),
        }
    }

    /// Frames that areas of the vmalloc hold, by its page tables: those of its records and those that are lent apart.
    pub(crate) fn area_frames(&self) -> usize {
        self.vmalloc.mapped.saturating_sub(VMALLOC.recount().record_pages as usize)
    }

    /// Says what was there before and is there now.
    pub(crate) fn print_since(&self, before: &Self) {
        fact!("balance.frames", "{} {}", before.frames, self.frames);
        fact!("balance.owners", "{} {}", before.owners, self.owners);
        fact!("balance.lent", "{} {}", before.lent, self.lent);
        fact!("balance.areas", "{} {}", before.vmalloc.alive, self.vmalloc.alive);
        fact!("balance.area_pages", "{} {}", self.vmalloc.mapped, self.vmalloc.recorded);
        fact!("balance.heap", "{} {} {}", before.heap, self.heap, self.lost - before.lost);
        let (ignored, arenas) = heap::retired();
        fact!("balance.retired", "{arenas} {} {}", ignored.bytes, ignored.objects);
        fact!("balance.tasks", "{} {}", before.tasks, self.tasks);
        fact!("balance.slots", "{}", self.slots_without_task);
        fact!("balance.reports", "{} {}", before.reports, self.reports);
        fact!("balance.reports_lost", "{}", oops::lost());
        print_cache();
    }
}

/// Areas of the vmalloc, counted twice: in its records, and in the page tables.
#[derive(Clone, Copy, Debug)]
struct Areas {
    alive: u64,
    /// Pages that areas and records have, by the records: those of frames that are lent apart.
    recorded: u64,
    /// Pages of the kernel's own frames that are mapped in its range.
    mapped: usize,
}

impl Areas {
    fn count(mapped: usize) -> Self {
        let (recount, mut lent) = (VMALLOC.recount(), 0);
        VMALLOC.for_each(|area| lent += if area.kind.is_lent() { area.range.bytes() / PAGE_SIZE } else { 0 });
        let recorded = recount.pages - recount.reserved_pages - lent as u64 + recount.record_pages;
        Self { alive: recount.areas, recorded, mapped }
    }
}

/// How many of the tasks' stacks came from the frame allocator, were unmapped to go back, and have gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Traffic {
    came: u64,
    leaving: u64,
    gone: u64,
    /// The same for the slots and chunks of the vmalloc, which come one by one.
    areas: u64,
    areas_waiting: u64,
}

impl Traffic {
    fn now() -> Self {
        let counters = TASKS.counters();
        let (areas, areas_waiting) = (VMALLOC.usage().allocated, vmalloc::waiting());
        Self { came: counters.populated, leaving: counters.unmapped, gone: counters.retired, areas, areas_waiting }
    }

    /// Whether none is on its way back.
    const fn is_still(self) -> bool {
        self.leaving == self.gone && self.areas_waiting == 0
    }
}

/// Frames of stacks that are unmapped, until every CPU has flushed them.
fn in_flight(area: &StackArea<Kernel>) -> usize {
    area.geometry().map_or(0, |geometry| area.recount().retiring * geometry.stack_pages())
}

/// Says how the tasks' stacks were had, since the boot: ready from the CPU's own, from the depot, built from frames; how many pages were
/// cleared, how many stacks recovered and unmapped, and the bytes that are kept now.
fn print_cache() {
    let c = TASKS.counters();
    fact!("cache.stacks", "{} {} {} {}", c.allocated, c.hits, c.from_depot, c.populated);
    fact!("cache.work", "{} {} {} {} {}", c.pages_cleared, c.recovered, c.returned, c.unmapped, c.held);
}

/// All of each area: records, per-CPU blocks, slots.
pub(crate) fn areas() -> impl Iterator<Item = VirtRange> {
    AREAS.iter().filter_map(|area| area.geometry()).map(|geometry: &Geometry| geometry.whole_range())
}

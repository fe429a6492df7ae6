//! The kernel as a platform of the library, and the areas that it makes.
//!
//! | area | for | stack |
//! | --- | --- | --- |
//! | [`TASKS`] | one for each task | 16 KiB |
//! | [`IDLE`] | one for each CPU: what it idles on | 16 KiB |
//! | [`INTERRUPTS`] | one for each CPU | 16 KiB |
//! | [`NMIS`] | one for each CPU | 8 KiB |
//! | [`EMERGENCY`] | three for each CPU: #DF, #MC, #DB | 16 KiB |
//! | [`EDGES`] | for crash scripts only: two, the first and the last | 16 KiB |
//! | [`DEPTHS`] | for the story of storage only: one for each of three sizes | 8, 32 and 64 KiB |
//! | [`LARGE`] | for requests at random only: memory for devices, nothing runs there | 128 KiB |
//!
//! All of them lie under one top-level entry. The stacks of the image, on which CPU 0 comes up, are registered with
//! `TASKS`, so that an overflow there is named as well.
//!
//! How other CPUs are made to forget what was unmapped: [`shootdown`].

use core::fmt;

use arrayvec::ArrayVec;
use vmstack::{
    AreaConfig, Cpu, Hint, InitError, KernelStack, MAX_STACK_SIZE, Mapping, NotMapped, Pages, PhysAddr, Placement,
    Platform, Scrub, StackArea, StackKind, Unmapped, VirtAddr, VirtRange,
};
use vmstack_paging::{Access, Attributes, Group, MapError};

use crate::arch::layout::{PAGE_SIZE, direct_map_to_phys, is_direct, phys_to_virt};
use crate::arch::percpu;
use crate::mm::frames::{self, FrameList, Giving};
use crate::mm::inject;
use crate::mm::tables;
use crate::sync::Section;
use crate::task::names;

mod epochs;
pub(crate) mod shootdown;

/// The atomics of the protocol: loom's, in its tests.
mod atomic {
    pub(super) use core::sync::atomic::{AtomicU64, Ordering, fence};
}

/// The size of a task's stack, in bytes.
pub(crate) const TASK_STACK: usize = 16 << 10;
/// How many tasks can have a stack at once.
pub(crate) const TASK_SLOTS: usize = vmstack::MAX_SLOTS;
/// The size of a CPU's interrupt stack, in bytes.
pub(crate) const INTERRUPT_STACK: usize = 16 << 10;
/// The size of a CPU's NMI stack, in bytes.
pub(crate) const NMI_STACK: usize = 8 << 10;
/// The size of a large stack, in bytes, and how many there can be.
pub(crate) const LARGE_STACK: usize = 128 << 10;
const LARGE_SLOTS: usize = 512;
/// Room for a record, a copy of it, and a report.
const EMERGENCY_STACK: usize = 16 << 10;

/// Where the areas lie: that for tasks first, then 1 GiB for each of the others.
const BASE: usize = 0xffff_c900_0000_0000;
const GIB: usize = 1 << 30;
/// The share of the machine's memory that ready stacks may take, before it is short: one in so many.
const CACHE_SHARE: usize = 8;
/// What the area for tasks takes, in GiB: 32 KiB for each slot, and 64 bytes for its record, and what aligning them leaves.
const TASKS_GIB: usize = 130;

pub(crate) static TASKS: StackArea<Kernel> = StackArea::new(Kernel);
pub(crate) static IDLE: StackArea<Kernel> = StackArea::new(Kernel);
pub(crate) static INTERRUPTS: StackArea<Kernel> = StackArea::new(Kernel);
pub(crate) static NMIS: StackArea<Kernel> = StackArea::new(Kernel);
pub(crate) static EMERGENCY: StackArea<Kernel> = StackArea::new(Kernel);

pub(crate) static EDGES: StackArea<Kernel> = StackArea::new(Kernel);
pub(crate) static LARGE: StackArea<Kernel> = StackArea::new(Kernel);

/// Areas of stacks that are not as large as others' are, and their sizes: what runs there shows how deep they go.
pub(crate) static DEPTHS: [StackArea<Kernel>; 3] = [const { StackArea::new(Kernel) }; 3];
pub(crate) const DEPTH_STACKS: [usize; 3] = [8 << 10, 32 << 10, 64 << 10];

/// All areas, in the order in which a fault is asked about. One that was not made has no stacks, and answers so.
pub(crate) static AREAS: [&StackArea<Kernel>; 10] =
    [&TASKS, &IDLE, &INTERRUPTS, &NMIS, &EMERGENCY, &EDGES, &LARGE, &DEPTHS[0], &DEPTHS[1], &DEPTHS[2]];

/// A stack of one of the areas.
pub(crate) type Stack = KernelStack<'static, Kernel>;

/// This kernel, as the library sees it.
#[derive(Debug)]
pub(crate) struct Kernel;

/// Frames on their way: side by side, where they are; else fresh ones on a list, and dead ones still in the page-table entries that they
/// had.
pub(crate) enum Frames {
    /// Side by side, the first of them; fresh or dead.
    Run(PhysAddr),
    Fresh(FrameList),
    Parked {
        /// Where the entries lie.
        entries: usize,
        /// How many they are.
        count: usize,
    },
}

/// The frames of one stack, or of one chunk of records.
type FrameArray = ArrayVec<PhysAddr, { MAX_STACK_SIZE / PAGE_SIZE }>;

/// The entries of a stack's pages.
type Entries = Group<'static, tables::Format>;

/// The entries of `mapping`'s pages: where the hint says, or found by a walk. None if there is no table yet.
#[inline]
fn entries(mapping: Mapping) -> Option<Entries> {
    match mapping.hint().get() {
        0 => find_entries(mapping),
        // SAFETY: `map` or `foresee` said so of these pages; tables of the areas are never freed.
        word => Some(unsafe { Entries::from_exposed(word, mapping.pages().count()) }),
    }
}

/// The entries of `mapping`'s pages, if these are as many as a run has frames and the hint says where: of a length that the compiler knows.
#[inline]
fn run_entries(mapping: Mapping) -> Option<Entries> {
    let word = mapping.hint().get();
    let known = word != 0 && mapping.pages().count() == frames::RUN_FRAMES;
    // SAFETY: as in `entries`.
    known.then(|| unsafe { Entries::from_exposed(word, frames::RUN_FRAMES) })
}

#[cold]
fn find_entries(mapping: Mapping) -> Option<Entries> {
    tables::kernel().group(mapping.pages())
}

/// Clears a frame through the direct map.
///
/// # Safety
///
/// Nobody uses it.
unsafe fn clear(frame: PhysAddr) {
    // SAFETY: the caller's promise; the direct map shows all frames.
    unsafe { crate::arch::memory::clear_page(phys_to_virt(frame)) };
}

/// Takes the frames that `entries` have parked.
fn take_parked(entries: Entries, frames: &mut FrameArray) {
    // SAFETY: the library gives frames back after the shootdown of their pages (INV-FRAME), and does not map the pages again before.
    let taken = unsafe { entries.take_parked(|frame| frames.push(frame)) };
    debug_assert!(taken, "{entries:?}");
}

impl Frames {
    fn give(self, giving: &mut Giving) {
        let mut frames = FrameArray::new_const();
        match self {
            Self::Run(first) => return giving.run(first),
            Self::Fresh(mut list) => frames.extend(core::iter::from_fn(|| list.pop())),
            Self::Parked { entries, count } => {
                // SAFETY: `unmap` found the entries there; tables of the areas are never freed.
                take_parked(unsafe { Entries::from_exposed(entries, count) }, &mut frames);
            }
        }
        giving.all(&frames);
    }

    /// Maps them with all that this may take: the first time there may be tables to make.
    ///
    /// # Safety
    ///
    /// As for [`Platform::map`].
    #[cold]
    #[inline(never)]
    unsafe fn map(self, mapping: Mapping) -> Result<Hint, NotMapped<Kernel>> {
        // There is a table already, most times.
        if let (Self::Run(first), Some(entries)) = (&self, entries(mapping)) {
            // SAFETY: the caller's promise; the kernel alone gets access to the frames.
            if unsafe { entries.map_run(STACK_MEMORY, *first) } {
                return Ok(Hint::new(entries.expose()));
            }
        }
        let mut frames = FrameArray::new_const();
        match self {
            Self::Run(first) => {
                frames.extend((0..frames::RUN_FRAMES).map(|i| first.wrapping_add((i * PAGE_SIZE) as u64)));
            }
            Self::Fresh(mut list) => frames.extend(core::iter::from_fn(|| list.pop())),
            Self::Parked { .. } => unreachable!("only fresh frames are mapped"),
        }
        // SAFETY: as above.
        let mapped = unsafe { tables::kernel().map(mapping.pages(), STACK_MEMORY, frames.iter().copied()) };
        let mapped = mapped.map(|()| Hint::new(find_entries(mapping).map_or(0, Entries::expose)));
        mapped.map_err(|error| {
            let mut list = FrameList::EMPTY;
            frames.iter().for_each(|&frame| list.push(frame));
            NotMapped { frames: Self::Fresh(list), reason: StackError::NotMapped(error) }
        })
    }
}

/// Why the kernel could not give what a stack needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StackError {
    OutOfFrames { wanted: usize },
    NotMapped(MapError),
}

/// Makes the areas, for `cpus` CPUs.
///
/// # Safety
///
/// Called once, on the kernel's final tables, before any other function here.
pub(crate) unsafe fn init(cpus: usize) -> Result<(), InitError<StackError>> {
    let areas = [
        (&TASKS, StackKind::Task, TASK_SLOTS, TASK_STACK, 0, TASKS_GIB),
        (&IDLE, StackKind::Idle, cpus, TASK_STACK, TASKS_GIB, 1),
        (&INTERRUPTS, StackKind::Interrupt, cpus, INTERRUPT_STACK, TASKS_GIB + 1, 1),
        (&NMIS, StackKind::Nmi, cpus, NMI_STACK, TASKS_GIB + 2, 1),
        (&EMERGENCY, StackKind::Emergency, 3 * cpus, EMERGENCY_STACK, TASKS_GIB + 3, 1),
    ];
    for (area, kind, slots, size, start, gib) in areas {
        let range = VirtRange::new(VirtAddr::new(BASE + start * GIB), gib * GIB).unwrap_or(VirtRange::EMPTY);
        let config = AreaConfig::new(range, slots, size, cpus).kind(kind);
        // SAFETY: the ranges do not overlap, and nothing else in the kernel maps anything between BASE and its end.
        unsafe { area.init(&config) }?;
    }
    TASKS.set_budget(frames::total() / CACHE_SHARE / (TASK_STACK / PAGE_SIZE));
    Ok(())
}

/// Makes the area of two stacks, once.
pub(crate) fn make_edges() -> Result<(), InitError<StackError>> {
    if EDGES.geometry().is_some() {
        return Ok(());
    }
    let range = VirtRange::new(VirtAddr::new(BASE + (TASKS_GIB + 4) * GIB), GIB / 2).unwrap_or(VirtRange::EMPTY);
    let config = AreaConfig::new(range, 2, TASK_STACK, crate::boot::cpus());
    // SAFETY: the range is of no other area's, and nothing else is mapped there.
    unsafe { EDGES.init(&config) }.map(|_| ())
}

/// Makes the area of large stacks, once.
pub(crate) fn make_large() -> Result<(), InitError<StackError>> {
    if LARGE.geometry().is_some() {
        return Ok(());
    }
    let range =
        VirtRange::new(VirtAddr::new(BASE + (TASKS_GIB + 4) * GIB + GIB / 2), GIB / 2).unwrap_or(VirtRange::EMPTY);
    let config = AreaConfig::new(range, LARGE_SLOTS, LARGE_STACK, crate::boot::cpus());
    // SAFETY: the range is of no other area's, and nothing else is mapped there.
    unsafe { LARGE.init(&config) }.map(|_| ())
}

/// Makes the areas of stacks of other sizes, once, in a boot that makes no idle ones: they lie where those would.
pub(crate) fn make_depths() -> Result<(), InitError<StackError>> {
    const SLOTS: usize = 4;
    for (number, (area, size)) in DEPTHS.iter().zip(DEPTH_STACKS).enumerate() {
        let range =
            VirtRange::new(VirtAddr::new(BASE + (TASKS_GIB + 6 + number) * GIB), GIB).unwrap_or(VirtRange::EMPTY);
        // SAFETY: the range is of no other area's, and nothing else is mapped there.
        unsafe { area.init(&AreaConfig::new(range, SLOTS, size, crate::boot::cpus())) }?;
    }
    Ok(())
}

/// Makes `area`, number `number` of those on which nothing runs: what their stacks take is counted. The others are not asked about
/// faults there.
pub(crate) fn make_idle_area(
    area: &'static StackArea<Kernel>,
    number: usize,
    slots: usize,
    size: usize,
    placement: Placement,
) -> Result<(), InitError<StackError>> {
    const EACH: usize = 32;
    let start = BASE + (TASKS_GIB + 6 + number * EACH) * GIB;
    let range = VirtRange::new(VirtAddr::new(start), EACH * GIB).unwrap_or(VirtRange::EMPTY);
    // SAFETY: below the same top-level entry, behind everything else here; each number is used once.
    unsafe { area.init(&AreaConfig::new(range, slots, size, 1).placement(placement)) }.map(|_| ())
}

/// A range that is nobody's, for experiments: below the same top-level entry, and aligned as widely as any slot.
pub(crate) fn spare_range() -> VirtRange {
    VirtRange::new(VirtAddr::new(BASE + (TASKS_GIB + 5) * GIB), GIB).unwrap_or(VirtRange::EMPTY)
}

/// Gives back the stacks of tasks that died on this CPU.
pub(crate) fn reap() {
    let section = Section::enter();
    TASKS.reap_in(&section);
    EDGES.reap_in(&section);
    if DEPTHS[0].geometry().is_some() {
        DEPTHS.iter().for_each(|area| area.reap_in(&section));
    }
}

/// Has every stack cleared from end to end before it is handed out: the control for what dirty bits save.
pub(crate) fn scrub_whole() {
    TASKS.set_scrub(Scrub::Whole);
}

const STACK_MEMORY: Attributes = Attributes::kernel(Access::ReadWrite);

// SAFETY: (1) the kernel's tables are shared by every address space, and only the library maps in the areas' ranges, with
// `STACK_MEMORY`, which is not executable; (2) frames are the buddy allocator's, cleared by `FrameList` and `take_run`; (3) a ticket is due
// when every CPU that may touch stacks has flushed since, and the others flush before they may (`epochs`); (4) CPU numbers index the
// per-CPU blocks; (5) the guard turns interrupts and preemption off, and nobody is killed under it; (6) dirty bits are the hardware's, and
// only the library's pages are asked about; (7) panics abort; (8) nothing calls in; (9) `vital` says that a guard is held, and the oops
// path sets `indispensable` by it; (10) a dying task hands its stack over in `switch::exit`, and the next one reaps in `after_switch`: in between
// every switch has the fence of `TaskWords::arrive`. The boots that count do both without a switch, on one CPU, where no other can see
// the order.
unsafe impl Platform for Kernel {
    const PAGE_SIZE: usize = PAGE_SIZE;
    type Frames = Frames;
    type Ticket = u64;
    type Guard = Section;
    type Error = StackError;

    fn take_frames(&self, count: usize) -> Result<Frames, StackError> {
        if inject::fails() {
            return Err(StackError::OutOfFrames { wanted: count });
        }
        if count == frames::RUN_FRAMES
            && let Some(first) = frames::take_run()
        {
            return Ok(Frames::Run(first));
        }
        FrameList::take(count).map(Frames::Fresh).ok_or(StackError::OutOfFrames { wanted: count })
    }

    fn give_frames(&self, frames: Frames) {
        frames.give(&mut frames::giving());
    }

    fn give_batch(&self, batch: impl Iterator<Item = Frames>) {
        let mut giving = frames::giving();
        batch.for_each(|frames| frames.give(&mut giving));
    }

    unsafe fn map(&self, mapping: Mapping, frames: Frames) -> Result<Hint, NotMapped<Self>> {
        if let (Frames::Run(first), Some(entries)) = (&frames, run_entries(mapping)) {
            // SAFETY: the caller's promise; the kernel alone gets access to the frames.
            if unsafe { entries.map_run(STACK_MEMORY, *first) } {
                return Ok(mapping.hint());
            }
        }
        // SAFETY: the caller's promise.
        unsafe { frames.map(mapping) }
    }

    unsafe fn unmap(&self, mapping: Mapping) -> Unmapped<Self> {
        let run = run_entries(mapping).filter(|entries| entries.frames().next().is_some_and(frames::begins_run));
        // SAFETY: the library vouches that nobody uses the pages and that they are its own.
        if let Some(first) = run.and_then(|entries| unsafe { entries.take_run() }) {
            return Unmapped::new(Frames::Run(first));
        }
        let Some(entries) = entries(mapping) else { unreachable!("a stack's entries lie in one table") };
        // SAFETY: as above.
        let parked = unsafe { entries.park() };
        debug_assert!(parked, "{entries:?}");
        Unmapped::new(Frames::Parked { entries: entries.expose(), count: mapping.pages().count() })
    }

    fn shootdown(&self, batch: impl Iterator<Item = Pages> + Clone) -> u64 {
        shootdown::begin(batch)
    }

    fn flushed(&self, ticket: &u64) -> bool {
        shootdown::is_over(*ticket)
    }

    fn translate(&self, addr: VirtAddr) -> Option<PhysAddr> {
        tables::translate(addr)
    }

    fn direct(&self, addr: VirtAddr, bytes: usize) -> Option<PhysAddr> {
        let last = addr.checked_add(bytes.checked_sub(1)?)?;
        (is_direct(addr) && is_direct(last)).then(|| direct_map_to_phys(addr))
    }

    #[inline]
    fn cpu(&self) -> Cpu {
        percpu::cpu_number()
    }

    #[inline]
    fn enter(&self) -> Section {
        Section::enter()
    }

    fn prepare(&self, range: VirtRange) -> Result<(), StackError> {
        tables::kernel().ensure_top_level(range).map_err(StackError::NotMapped)
    }

    fn foresee(&self, first: Pages, stride: usize, _count: usize) -> impl Iterator<Item = Hint> {
        // One table: more, for large stacks, would be wasted on a machine that has few tasks.
        let table = tables::kernel().make_leaf_table(first.start());
        table.into_iter().flat_map(move |table| table.groups(first, stride)).map(|entries| Hint::new(entries.expose()))
    }

    const HAS_DIRTY: bool = true;

    #[inline]
    unsafe fn clear_written(&self, mapping: Mapping) -> usize {
        let Some(entries) = entries(mapping) else { return 0 };
        // SAFETY: the frames are mapped at pages that nobody uses, by the caller's word.
        entries.written().map(|frame| unsafe { clear(frame) }).count()
    }

    unsafe fn clear(&self, mapping: Mapping) {
        let Some(entries) = entries(mapping) else { return };
        // SAFETY: as above.
        entries.frames().for_each(|frame| unsafe { clear(frame) });
    }

    fn take_dirty_bits(&self, stacks: impl Iterator<Item = Mapping> + Clone) -> Option<u64> {
        stacks.clone().filter_map(entries).for_each(Entries::clear_dirty);
        Some(self.shootdown(stacks.map(Mapping::pages)))
    }

    #[inline]
    fn handed_over(&self) {
        // See (10) above.
    }

    fn write_owner(&self, owner: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        names::write(owner, out)
    }
}

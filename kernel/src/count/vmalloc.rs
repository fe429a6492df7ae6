//! What areas of any size cost, in instructions: the suite `vmalloc`.
//!
//! Linux measures its vmalloc with `lib/test_vmalloc.c`. These are its tests, written anew: the same names, sizes, alignments and numbers of turns.
//! Each is counted as a whole, from its first allocation until the last frame that it had is free again: what is deferred is drained inside. Beside that it says
//! what the part before and after the turns took, and the last drain, and how many pages were cleared: what that takes is told apart.
//!
//! One more part counts allocations alone, with few and with many areas alive.
//!
//! Runs in a boot of its own, as [`count`](super::count) does.

use core::fmt;

use vmstack::{PhysAddr, VirtAddr};
use vmstack_paging::{Access, Attributes};
use vmstack_vmalloc::Request;

use super::{calibrate, median};
use crate::arch::cpu;
use crate::arch::layout::PAGE_SIZE;
use crate::dice::Dice;
use crate::fact;
use crate::mm::{frames, tables};
use crate::stacks::TASK_STACK;
use crate::vmalloc::VMALLOC;

/// Linux's `test_loop_count`, as the figures were taken that these are compared with.
const TURNS: usize = 2000;
/// Pages of the areas that are alive in `full_fit_alloc_test`, and as many between them: 32 MiB for each bit of the number of CPUs.
const JUNK: usize = (32 << 20) / PAGE_SIZE;
/// Areas that are alive in `long_busy_list_alloc_test`.
const BUSY: usize = 15_000;
/// Allocations of `pcpu_alloc_test`.
const PER_CPU: usize = 35_000;
/// Areas that are alive while allocations alone are counted.
const ALIVE: [usize; 2] = [10, 100_000];

/// A test: its turns and what is around them. None if an allocation failed.
type Test = fn(&mut Turns) -> Option<()>;
/// Areas of mixed sizes that are alive while what lies around them is counted.
const MIXED: usize = 1000;

/// Counts everything.
#[inline(never)]
pub(crate) fn count() {
    calibrate(median(|| ()));
    fact!("vmalloc.clear.page", "{}", clearing());
    let tests: [(&str, Test); 9] = [
        ("fix_size_alloc_test", fix_size),
        ("full_fit_alloc_test", full_fit),
        ("long_busy_list_alloc_test", long_busy_list),
        ("random_size_alloc_test", random_size),
        ("fix_align_alloc_test", fix_align),
        ("random_size_align_alloc_test", random_size_align),
        ("pcpu_alloc_test", pcpu),
        ("vm_map_ram_test", map_ram),
        ("by_address", fix_size_by_address),
    ];
    for (name, test) in tests {
        fact!(format_args!("vmalloc.{name}"), "{}", Turns::of(test));
    }
    ALIVE.iter().for_each(|&areas| alive(areas));
    mixed();
    large();
}

/// What clearing a page costs.
fn clearing() -> u64 {
    let Some(frame) = frames::take(0) else { return 0 };
    let cost = median(|| frames::clear(frame)).saturating_sub(median(|| ()));
    frames::give(frame, 0);
    cost
}

/// A test that is run and counted.
struct Turns {
    dice: Dice,
    /// When it began, and what the part around the turns has taken.
    start: u64,
    around: u64,
    drained: u64,
    turns: usize,
    /// Pages that were asked for as zeroes.
    zeroed: usize,
    shootdowns: u64,
    failed: bool,
}

impl Turns {
    /// Runs `test`, and drains to the end.
    fn of(test: Test) -> Self {
        VMALLOC.drain();
        let shootdowns = VMALLOC.usage().shootdowns;
        let mut turns = Self {
            dice: Dice::new(),
            start: cpu::cycles(),
            around: 0,
            drained: 0,
            turns: 0,
            zeroed: 0,
            shootdowns,
            failed: false,
        };
        turns.failed = test(&mut turns).is_none();
        let done = cpu::cycles();
        VMALLOC.drain();
        let end = cpu::cycles();
        turns.drained = end - done;
        turns.start = end - turns.start;
        turns.shootdowns = VMALLOC.usage().shootdowns - shootdowns;
        turns
    }

    /// Does what is no turn of the test, but belongs to it.
    fn around<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let start = cpu::cycles();
        let result = work(self);
        self.around += cpu::cycles() - start;
        result
    }

    /// The turns.
    fn each(&mut self, count: usize, mut turn: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.turns = count;
        (0..count).try_for_each(|_| turn(self))
    }
}

impl fmt::Display for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start: all, around, drained, turns, zeroed, shootdowns, failed, .. } = self;
        if *failed {
            return write!(f, "an allocation failed");
        }
        write!(f, "{turns} {all} {around} {drained} {zeroed} {shootdowns}")
    }
}

fn touch(addr: VirtAddr) {
    // SAFETY: the first byte of an area that the caller has.
    unsafe { addr.as_mut_ptr::<u8>().write_volatile(1) };
}

/// An area of the vmalloc.
type Area = vmstack_vmalloc::Area<'static, crate::vmalloc::Kernel>;

/// An area, made and freed.
#[inline(always)]
fn make(request: &Request) -> Option<()> {
    let Ok(area) = VMALLOC.alloc(request) else { return None };
    drop(area);
    Some(())
}

/// An area of `count` pages, made, touched and freed.
#[inline(always)]
fn make_pages(count: usize) -> Option<()> {
    let Ok(area) = VMALLOC.alloc(&Request::new(count * PAGE_SIZE)) else { return None };
    touch(area.start());
    drop(area);
    Some(())
}

/// An area whose address is remembered, and nothing else, as in Linux's tests.
#[inline]
fn take_address(request: &Request) -> Option<VirtAddr> {
    VMALLOC.alloc(request).ok().map(Area::into_raw)
}

#[inline]
fn give(addr: VirtAddr) {
    let freed = VMALLOC.free(addr);
    debug_assert!(freed.is_ok(), "{freed:?}");
}

/// One page.
fn fix_size(turns: &mut Turns) -> Option<()> {
    turns.each(TURNS, |_| make_pages(1))
}

/// The same, freed by its address.
fn fix_size_by_address(turns: &mut Turns) -> Option<()> {
    turns.each(TURNS, |_| {
        let Ok(area) = VMALLOC.alloc(&Request::new(PAGE_SIZE)) else { return None };
        let start = area.into_raw();
        touch(start);
        give(start);
        Some(())
    })
}

/// One page, where holes of just that size are between areas.
fn full_fit(turns: &mut Turns) -> Option<()> {
    let kept = turns.around(|_| Addresses::new(JUNK))?;
    turns.around(|_| {
        let junk = Addresses::new(JUNK)?;
        for i in 0..JUNK {
            kept.set(i, take_address(&Request::new(PAGE_SIZE))?);
            junk.set(i, take_address(&Request::new(PAGE_SIZE))?);
        }
        junk.give_all();
        Some(())
    })?;
    turns.each(TURNS, |_| make_pages(1))?;
    turns.around(|_| kept.give_all());
    Some(())
}

/// 100 pages and one page, with many areas alive.
fn long_busy_list(turns: &mut Turns) -> Option<()> {
    let kept = turns.around(|_| Addresses::filled(BUSY, |_| take_address(&Request::new(PAGE_SIZE))))?;
    turns.each(TURNS, |_| {
        let Ok(large) = VMALLOC.alloc(&Request::new(100 * PAGE_SIZE)) else { return None };
        let Ok(small) = VMALLOC.alloc(&Request::new(PAGE_SIZE)) else { return None };
        touch(large.start());
        touch(small.start());
        Some(())
    })?;
    turns.around(|_| kept.give_all());
    Some(())
}

/// 1 to 100 pages.
fn random_size(turns: &mut Turns) -> Option<()> {
    turns.each(TURNS, |turns| make_pages(turns.dice.between(1, 100)))
}

/// Five zeroed pages, aligned to twice a stack.
fn fix_align(turns: &mut Turns) -> Option<()> {
    turns.each(TURNS, |turns| {
        turns.zeroed += 5;
        make(&Request::new(5 * PAGE_SIZE).align(2 * TASK_STACK).zeroed())
    })
}

/// 1 to 10 zeroed pages, aligned to a byte to 4 MiB.
fn random_size_align(turns: &mut Turns) -> Option<()> {
    turns.each(TURNS, |turns| {
        let random = turns.dice.next() % 256;
        let (align, pages) = (1 << (random % 23), random % 10 + 1);
        turns.zeroed += pages;
        make(&Request::new(pages * PAGE_SIZE).align(align).zeroed())
    })
}

/// Many small sizes and alignments alive at once, as Linux's test asks of its per-CPU allocator; here each is an area.
fn pcpu(turns: &mut Turns) -> Option<()> {
    let kept = turns.around(|_| Addresses::new(PER_CPU))?;
    let mut i = 0;
    turns.each(PER_CPU, |turns| {
        let (bytes, align) = (turns.dice.between(1, PAGE_SIZE / 4), 1 << turns.dice.between(1, 11));
        kept.set(i, take_address(&Request::new(bytes).align(align))?);
        i += 1;
        Some(())
    })?;
    kept.give_all();
    Some(())
}

/// One given page, mapped for a moment.
fn map_ram(turns: &mut Turns) -> Option<()> {
    let frame = [frames::take(0)?];
    let done = turns.each(TURNS, |_| map_once(&frame));
    VMALLOC.drain();
    frames::give(frame[0], 0);
    done
}

fn map_once(frame: &[PhysAddr; 1]) -> Option<()> {
    // SAFETY: the frame is the caller's, who keeps it until the mapping is drained.
    let area = unsafe { VMALLOC.map_ram(frame, Attributes::kernel(Access::ReadWrite)) }.ok()?;
    touch(area.start());
    Some(())
}

/// Addresses of areas, in an area.
struct Addresses {
    area: Area,
    count: usize,
}

impl Addresses {
    fn new(count: usize) -> Option<Self> {
        let area = VMALLOC.alloc(&Request::new(count * size_of::<VirtAddr>())).ok()?;
        Some(Self { area, count })
    }

    fn filled(count: usize, mut make: impl FnMut(usize) -> Option<VirtAddr>) -> Option<Self> {
        let addresses = Self::new(count)?;
        (0..count).try_for_each(|i| make(i).map(|area| addresses.set(i, area)))?;
        Some(addresses)
    }

    fn place(&self, i: usize) -> *mut VirtAddr {
        assert!(i < self.count, "there is room for {} addresses", self.count);
        self.area.start().wrapping_add(i * size_of::<VirtAddr>()).as_mut_ptr()
    }

    fn set(&self, i: usize, addr: VirtAddr) {
        // SAFETY: the place lies in the area, and is aligned as its start is.
        unsafe { self.place(i).write(addr) };
    }

    /// Frees all of them, the first one first.
    fn give_all(self) {
        // SAFETY: as in `set`, which has written to all of them.
        (0..self.count).for_each(|i| give(unsafe { self.place(i).read() }));
    }
}

/// What an allocation takes, and what lies around areas, while `areas` of them are alive.
fn alive(areas: usize) {
    let mut dice = Dice::new();
    let kept = Addresses::filled(areas, |_| take_address(&Request::new(PAGE_SIZE)));
    let Some(kept) = kept else { return fact!(format_args!("vmalloc.alive.{areas}"), "an allocation failed") };
    for (name, most) in [("page", 1), ("random", 100)] {
        let (mut taken, mut freed) = (0, 0);
        for _ in 0..TURNS {
            let pages = dice.between(1, most);
            let start = cpu::cycles();
            let Ok(area) = VMALLOC.alloc(&Request::new(pages * PAGE_SIZE)) else { continue };
            let made = cpu::cycles();
            drop(area);
            taken += made - start;
            freed += cpu::cycles() - made;
        }
        fact!(format_args!("vmalloc.alive.{areas}.{name}"), "{} {}", taken / TURNS as u64, freed / TURNS as u64);
    }
    around(format_args!("{areas}"));
    kept.give_all();
    VMALLOC.drain();
}

/// What lies around areas of 1 to 100 pages.
fn mixed() {
    let mut dice = Dice::new();
    let kept = Addresses::filled(MIXED, |_| take_address(&Request::new(dice.between(1, 100) * PAGE_SIZE)));
    let Some(kept) = kept else { return fact!("vmalloc.around.mixed", "an allocation failed") };
    around(format_args!("mixed"));
    kept.give_all();
    VMALLOC.drain();
}

/// What the areas that are alive take beside their own pages.
fn around(what: fmt::Arguments<'_>) {
    let (sum, usage) = (VMALLOC.fragmentation(), VMALLOC.recount());
    let census = tables::kernel().census(VMALLOC.range());
    fact!(
        format_args!("vmalloc.around.{what}"),
        "{} {} {} {} {} {}",
        usage.pages,
        census.tables,
        usage.record_pages,
        sum.used,
        sum.guards,
        sum.padding
    );
}

/// 64 MiB at a time, with large pages and without.
fn large() {
    const BYTES: usize = 64 << 20;
    for (name, request) in [("large", Request::new(BYTES)), ("small_pages", Request::new(BYTES).small_pages())] {
        VMALLOC.drain();
        let start = cpu::cycles();
        let area = VMALLOC.alloc(&request);
        let made = cpu::cycles();
        let pages = area.as_ref().ok().and_then(Area::info).map_or(0, |info| info.large);
        drop(area);
        VMALLOC.drain();
        fact!(format_args!("vmalloc.64m.{name}"), "{pages} {} {}", made - start, cpu::cycles() - made);
    }
}

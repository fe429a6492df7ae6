//! What a stack costs, part by part, in instructions: the suite `stack`.
//!
//! Everything goes through the calls that `clone` uses: under one section, as there. Costs of single calls are medians; costs that come
//! now and then (a visit to the depot, a batch unmapped, a deep stack) are sums over many, divided by how many there were.
//!
//! Runs in a boot of its own, as [`count`](super::count) does.

use alloc::vec::Vec;

use vmstack::{Scrub, VirtAddr};

use super::{calibrate, median, numbered, shootdown, write_top};
use crate::arch::cpu;
use crate::arch::layout::PAGE_SIZE;
use crate::fact;
use crate::mm::frames;
use crate::stacks::{Stack, TASK_STACK, TASKS};
use crate::sync::Section;

/// The pages of a stack.
pub(super) const PAGES: usize = TASK_STACK / PAGE_SIZE;
/// Stacks that are made and unmade together where batches count.
pub(super) const MANY: usize = 1024;
/// How many stacks are in rotation in the steady state.
const ROTATION: usize = 64;
/// Tasks that live and die before anything is counted in the steady state.
const TASKS_BEFORE: usize = 100_000;
/// Turns of the rotation in which tasks of one depth are counted.
const TURNS: usize = 256;
/// One task in so many goes deep.
const DEEP_ONE_IN: usize = 100;

/// Counts everything.
#[inline(never)]
pub(crate) fn count() {
    let section = Section::enter();
    let empty = median(|| ());
    calibrate(empty);
    let page = clearing(empty);
    fact!("stack.clear.page", "{page}");
    hits(&section, empty);
    fact!("stack.depot", "{}", depot(&section));
    shootdown::count(empty, cold(&section, page));
    for (name, scrub) in
        [("dirty", Scrub::Dirty), ("whole", Scrub::Whole), ("exit", Scrub::OnExit), ("none", Scrub::None)]
    {
        steady(&section, name, scrub);
    }
    numbered::count(&section, empty, page);
}

/// What clearing a page costs.
fn clearing(empty: u64) -> u64 {
    let Some(frame) = frames::take(0) else { return 0 };
    let cost = median(|| frames::clear(frame)).saturating_sub(empty);
    frames::give(frame, 0);
    cost
}

/// A stack from the magazine and back into it.
fn hits(section: &Section, empty: u64) {
    let apart = |cost: u64| cost.saturating_sub(empty);
    TASKS.set_scrub(Scrub::None);
    fact!("stack.hot", "{}", apart(median(|| untouched(section))));
    fact!("stack.hot.handed_over", "{}", apart(median(|| handed_over(section))));
    TASKS.set_scrub(Scrub::Dirty);
    fact!("stack.hot.tested", "{}", apart(median(|| untouched(section))));
    fact!("stack.hot.guarded", "{}", apart(median(|| drop(TASKS.alloc(1)))));
    fact!("stack.hot_used1", "{}", apart(median(|| used(section, 1))));
}

#[inline(always)]
fn untouched(section: &Section) {
    if let Ok(stack) = TASKS.alloc_in(section, 1) {
        stack.free_in(section);
    }
}

/// As a task gives its stack back: handed over, and taken by who runs next.
#[inline(always)]
fn handed_over(section: &Section) {
    if let Ok(stack) = TASKS.alloc_in(section, 1) {
        stack.hand_over(section);
        TASKS.reap_in(section);
    }
}

/// A stack whose task writes to the topmost `pages` pages.
#[inline(always)]
fn used(section: &Section, pages: usize) {
    if let Ok(stack) = TASKS.alloc_in(section, 1) {
        write_top(stack.top());
        (1..pages).for_each(|page| write_top(stack.top().wrapping_sub(page * PAGE_SIZE)));
        stack.free_in(section);
    }
}

/// Takes many stacks and gives them back, from and to the depot: for each stack, both together.
fn depot(section: &Section) -> u64 {
    TASKS.set_scrub(Scrub::None);
    let mut stacks = Vec::with_capacity(MANY);
    let mut round = || {
        let start = cpu::cycles();
        (0..MANY).filter_map(|_| TASKS.alloc_in(section, 1).ok()).for_each(|stack| stacks.push(stack));
        while let Some(stack) = stacks.pop() {
            Stack::free_in(stack, section);
        }
        cpu::cycles() - start
    };
    // The first rounds build the stacks, and find how large magazines should be.
    (0..8).for_each(|_| _ = round());
    let around = around_a_stack(section);
    let cost = round() / MANY as u64;
    TASKS.set_scrub(Scrub::Dirty);
    cost.saturating_sub(around)
}

/// What it costs to remember a stack in a list and to take it out again: no part of what is counted.
pub(super) fn around_a_stack(section: &Section) -> u64 {
    let mut words: Vec<[usize; 2]> = Vec::with_capacity(MANY);
    let start = cpu::cycles();
    (0..MANY)
        .map(|i| [i, core::ptr::from_ref(section).addr()])
        .for_each(|word| words.push(core::hint::black_box(word)));
    while let Some(word) = words.pop() {
        core::hint::black_box(word);
    }
    (cpu::cycles() - start) / MANY as u64
}

/// From nothing and back to nothing: the batches drained to their end. How many stacks a batch had.
fn cold(section: &Section, page: u64) -> usize {
    let mut stacks = Vec::with_capacity(MANY);
    let mut costs = [0; 4];
    for _ in 0..3 {
        TASKS.drain();
        let start = cpu::cycles();
        (0..MANY).filter_map(|_| TASKS.alloc_in(section, 1).ok()).for_each(|stack| stacks.push(stack));
        let made = cpu::cycles();
        while let Some(stack) = stacks.pop() {
            Stack::free_in(stack, section);
        }
        let freed = cpu::cycles();
        TASKS.drain();
        let drained = cpu::cycles();
        costs = [drained - start, made - start, freed - made, drained - freed].map(|cost| cost / MANY as u64);
    }
    let [all, made, freed, drained] = costs;
    let all = all.saturating_sub(around_a_stack(section));
    let apart = |cost: u64| cost.saturating_sub(page * PAGES as u64);
    fact!("stack.cold", "{} {} {freed} {drained}", apart(all), apart(made));
    let counters = TASKS.counters();
    fact!("stack.cold.batches", "{} {}", counters.unmapped, counters.shootdowns);
    counters.unmapped.checked_div(counters.shootdowns).unwrap_or(0) as usize
}

/// The steady state under a policy: many tasks on the same stacks, of which a few go deep.
fn steady(section: &Section, name: &str, scrub: Scrub) {
    TASKS.drain();
    TASKS.set_scrub(scrub);
    (0..TASKS_BEFORE / ROTATION).for_each(|turn| _ = rotate(section, turn, None));
    let before = TASKS.counters();
    (0..TASKS_BEFORE / ROTATION).for_each(|turn| _ = rotate(section, turn, None));
    let after = TASKS.counters();
    let cleared = after.pages_cleared - before.pages_cleared;
    let handed = (after.allocated - before.allocated) * PAGES as u64;
    fact!(format_args!("stack.scrub.{name}"), "{cleared} {handed} {}", after.recovered - before.recovered);
    for (depth, pages) in [("shallow", 1), ("middling", 2), ("deep", PAGES)] {
        let costs: u64 = (0..TURNS).map(|_| rotate(section, 0, Some(pages))).sum();
        fact!(format_args!("stack.scrub.{name}.{depth}"), "{}", costs / (TURNS * ROTATION) as u64);
        (0..TASKS_BEFORE / ROTATION / 4).for_each(|turn| _ = rotate(section, turn, None));
    }
    TASKS.set_scrub(Scrub::Dirty);
}

/// Each stack of the rotation has a task: of `pages` pages, or nearly always of one. What allocating and freeing them took.
fn rotate(section: &Section, turn: usize, pages: Option<usize>) -> u64 {
    let mut stacks: [Option<Stack>; ROTATION] = [const { None }; ROTATION];
    let start = cpu::cycles();
    stacks.iter_mut().for_each(|place| *place = TASKS.alloc_in(section, 1).ok());
    let allocated = cpu::cycles();
    for (i, stack) in stacks.iter().flatten().enumerate() {
        let deep = (turn * ROTATION + i).is_multiple_of(DEEP_ONE_IN);
        touch(stack.top(), pages.unwrap_or(if deep { PAGES } else { 1 }));
    }
    let used = cpu::cycles();
    for stack in &mut stacks {
        if let Some(stack) = stack.take() {
            stack.free_in(section);
        }
    }
    cpu::cycles() - used + (allocated - start)
}

/// What a task does that uses `pages` pages of its stack.
fn touch(top: VirtAddr, pages: usize) {
    (0..pages).for_each(|page| write_top(top.wrapping_sub(page * PAGE_SIZE)));
}

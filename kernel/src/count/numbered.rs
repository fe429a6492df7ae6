//! What a stack costs whose slot is its task's number, beside the magazines: a part of the suite `stack`.
//!
//! The operations of that suite are counted in the same way, on an area of their own. What finding the number costs is counted apart, for
//! a kernel numbers its tasks anyway. Then a pattern of many lives says what becomes of the stacks, by who hands the numbers out: how many
//! were ready in their slots, and how many bytes were held for that.
//!
//! The pattern: 256 tasks are alive. In each burst up to 48 of them end, by chance how many and which, and as many begin, until 100,000 have
//! lived. After the ends the area is asked what it has to do for its budget, as at a tick. With a budget as many stacks may be idle as a
//! burst leaves: the magazines come to as many by themselves.

use alloc::vec::Vec;

use vmstack::{Placement, Scrub, StackArea};

use super::numbers::{Cyclic, Lowest, NUMBERS, Numbers};
use super::stack::{MANY, PAGES, around_a_stack};
use super::{median, write_top};
use crate::arch::cpu;
use crate::stacks::{self, Kernel, Stack, TASK_STACK};
use crate::sync::Section;
use crate::task;
use crate::{fact, println};

/// Some number.
const SOME: u32 = 4711;
/// Tasks of the pattern.
const LIVES: u64 = 100_000;
/// How many of them are alive, and how many end in one burst at most.
const ALIVE: usize = 256;
const BURST: usize = 48;
/// How many idle stacks may be kept, where there is a budget: as many as a burst leaves.
const BUDGET: usize = BURST;

static NUMBERED: StackArea<Kernel> = StackArea::new(Kernel);
/// What the pattern is compared with.
static MAGAZINES: StackArea<Kernel> = StackArea::new(Kernel);

/// Counts everything. To read the clock takes `empty`, to clear a page `page`.
#[inline(never)]
pub(super) fn count(section: &Section, empty: u64, page: u64) {
    let areas = [(&NUMBERED, Placement::Numbered), (&MAGAZINES, Placement::Any)];
    for (number, (area, placement)) in areas.into_iter().enumerate() {
        if let Err(error) = stacks::make_idle_area(area, number, NUMBERS, TASK_STACK, placement) {
            println!("vmstack: no area to count in: {error}");
            return;
        }
    }
    hits(section, empty);
    fact!("stack.numbered.long", "{}", long(section));
    fact!("stack.numbered.cold", "{}", cold(section, page));
    finding(empty);
    for (name, budget) in [("unlimited", usize::MAX), ("budget", BUDGET)] {
        pattern(section, name, budget);
    }
}

/// A stack that is in the slot of its number.
fn hits(section: &Section, empty: u64) {
    let apart = |cost: u64| cost.saturating_sub(empty);
    NUMBERED.set_scrub(Scrub::None);
    fact!("stack.numbered.hot", "{}", apart(median(|| untouched(section))));
    fact!("stack.numbered.hot.handed_over", "{}", apart(median(|| handed_over(section))));
    NUMBERED.set_scrub(Scrub::Dirty);
    fact!("stack.numbered.hot.tested", "{}", apart(median(|| untouched(section))));
    fact!("stack.numbered.hot_used1", "{}", apart(median(|| used(section))));
}

#[inline(always)]
fn untouched(section: &Section) {
    if let Ok(stack) = NUMBERED.alloc_numbered_in(section, SOME, 1) {
        stack.free_in(section);
    }
}

/// As a task gives its stack back: handed over, and taken by who runs next.
#[inline(always)]
fn handed_over(section: &Section) {
    if let Ok(stack) = NUMBERED.alloc_numbered_in(section, SOME, 1) {
        stack.hand_over(section);
        NUMBERED.reap_in(section);
    }
}

/// A stack whose task writes to the topmost page.
#[inline(always)]
fn used(section: &Section) {
    if let Ok(stack) = NUMBERED.alloc_numbered_in(section, SOME, 1) {
        write_top(stack.top());
        stack.free_in(section);
    }
}

/// Takes the stacks of many numbers, and gives them back. What both took, for all of them.
fn round(section: &Section, stacks: &mut Vec<Stack>) -> u64 {
    let start = cpu::cycles();
    let numbers = 0..MANY as u32;
    numbers
        .filter_map(|number| NUMBERED.alloc_numbered_in(section, number, 1).ok())
        .for_each(|stack| stacks.push(stack));
    while let Some(stack) = stacks.pop() {
        Stack::free_in(stack, section);
    }
    cpu::cycles() - start
}

/// A ready stack in a long run, with what the hand does in between.
fn long(section: &Section) -> u64 {
    let mut stacks = Vec::with_capacity(MANY);
    NUMBERED.set_scrub(Scrub::None);
    round(section, &mut stacks);
    let cost = round(section, &mut stacks) / MANY as u64;
    NUMBERED.set_scrub(Scrub::Dirty);
    cost.saturating_sub(around_a_stack(section))
}

/// From nothing and back to nothing, clearing apart.
fn cold(section: &Section, page: u64) -> u64 {
    let mut stacks = Vec::with_capacity(MANY);
    let mut cost = 0;
    // The first time finds how many frames there are side by side.
    for _ in 0..3 {
        NUMBERED.drain();
        let start = cpu::cycles();
        round(section, &mut stacks);
        NUMBERED.drain();
        cost = (cpu::cycles() - start) / MANY as u64;
    }
    cost.saturating_sub(page * PAGES as u64 + around_a_stack(section))
}

/// What it takes to find a number: the kernel's next one; and the lowest that is free, when there are hundreds that are not, with giving it back.
fn finding(empty: u64) {
    let next = median(|| _ = core::hint::black_box(task::next_number()));
    let mut numbers = Lowest::new();
    (0..ALIVE).for_each(|_| _ = numbers.take());
    let lowest = median(|| {
        let number = core::hint::black_box(numbers.take());
        numbers.give(number);
    });
    fact!("stack.number", "{} {}", next.saturating_sub(empty), lowest.saturating_sub(empty));
}

/// The pattern, from magazines, with the lowest numbers, and with numbers one after the other.
fn pattern(section: &Section, name: &str, budget: usize) {
    let (mut lowest, mut cyclic) = (Lowest::new(), Cyclic::new());
    let ways: [(&str, &'static StackArea<Kernel>, Option<&mut dyn Numbers>); 3] = [
        ("magazines", &MAGAZINES, None),
        ("lowest", &NUMBERED, Some(&mut lowest)),
        ("cyclic", &NUMBERED, Some(&mut cyclic)),
    ];
    for (way, area, numbers) in ways {
        area.drain();
        area.set_budget(budget);
        let before = area.counters();
        let most = Lives { section, area, numbers, alive: Vec::with_capacity(ALIVE), chance: 1 }.run();
        let after = area.counters();
        let (all, built) = (after.allocated - before.allocated, after.populated - before.populated);
        fact!(format_args!("stack.pattern.{name}.{way}"), "{all} {built} {most} {}", ALIVE * TASK_STACK);
        area.set_budget(usize::MAX);
    }
}

/// The lives of the pattern.
struct Lives<'s> {
    section: &'s Section,
    area: &'static StackArea<Kernel>,
    numbers: Option<&'s mut dyn Numbers>,
    alive: Vec<Stack>,
    chance: u64,
}

impl Lives<'_> {
    /// All of them. The most bytes that were held between ends and beginnings.
    fn run(&mut self) -> u64 {
        let (mut lives, mut held) = (0, 0);
        while lives < LIVES {
            while self.alive.len() < ALIVE && self.start() {
                lives += 1;
            }
            (0..=self.below(BURST)).for_each(|_| self.end());
            self.area.answer_pressure();
            held = self.area.counters().held.max(held);
        }
        while !self.alive.is_empty() {
            self.end();
        }
        held
    }

    /// What looks like chance.
    fn below(&mut self, limit: usize) -> usize {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) as usize % limit.max(1)
    }

    /// A task begins. False if there was no stack for it.
    fn start(&mut self) -> bool {
        let stack = match &mut self.numbers {
            None => self.area.alloc_in(self.section, 1).ok(),
            // A number may be that of a task that is still alive.
            Some(numbers) => {
                (0..NUMBERS).find_map(|_| self.area.alloc_numbered_in(self.section, numbers.take(), 1).ok())
            }
        };
        let started = stack.is_some();
        self.alive.extend(stack);
        started
    }

    /// Some task ends.
    fn end(&mut self) {
        let which = self.below(self.alive.len());
        let stack = self.alive.swap_remove(which);
        let number = stack.id().slot().get();
        stack.free_in(self.section);
        if let Some(numbers) = &mut self.numbers {
            numbers.give(number);
        }
    }
}

//! Stacks by number: the slot that a number leads to, who gets it, and what becomes of its memory.

mod fake;

use core::sync::atomic::Ordering;
use fake::{Area, Fake, Flush, SIZE, Stack, assert_guarded, assert_held_is_right, numbered_area_of as numbered};
use vmstack::{AllocError, KernelStack, Node, Phase, Platform, Scrub, StackArea};

const MIB: usize = 1 << 20;
const PAGES: usize = SIZE / 4096;

fn fake_of(cpus: usize, flush: Flush) -> Fake {
    Fake::new(cpus, 2000, 16 * MIB, flush)
}

/// The phase because of which the slot `number` cannot be had.
fn taken(area: &Area<'_>, number: u32) -> Option<Phase> {
    match area.alloc_numbered(number, 0) {
        Err(AllocError::NumberTaken { number: refused, phase }) if refused == number => Some(phase),
        _ => None,
    }
}

/// Gives stacks to `numbers`, and takes them back.
fn warm(area: &Area<'_>, numbers: core::ops::Range<u32>) {
    let stacks: Vec<_> = numbers.map(|number| area.alloc_numbered(number, 1).expect("a stack")).collect();
    drop(stacks);
}

fn ready(area: &Area<'_>) -> usize {
    area.recount().ready
}

#[test]
fn the_number_is_the_slot_and_its_pages_are_found_again() {
    let fake = fake_of(2, Flush::Now);
    let area = numbered(&fake, 100);
    let stack = area.alloc_numbered(7, 1).expect("a stack");
    assert_guarded(&fake, &stack);
    let (bottom, top, pages) = (stack.bottom(), stack.top(), fake.mapped_pages());
    assert_eq!(stack.id().slot().get(), 7);
    assert_eq!(area.geometry().and_then(|shape| shape.slot(7)).map(|slot| shape_top(&area, slot.get())), Some(top));
    fake.write(bottom, 1);
    drop(stack);
    // On any CPU: nobody keeps anything.
    fake.run_on(1);
    let again = area.alloc_numbered(7, 2).expect("a stack");
    assert_eq!((again.bottom(), fake.mapped_pages()), (bottom, pages));
    assert!(fake.reads_zero(bottom, SIZE), "INV-ZERO");
    let counters = area.counters();
    assert_eq!((counters.hits, counters.populated, counters.pages_cleared), (1, 1, 1));
}

fn shape_top(area: &Area<'_>, slot: u32) -> vmstack::VirtAddr {
    let shape = area.geometry().expect("it is initialised");
    shape.top(shape.slot(slot as usize).expect("there is such a slot"))
}

#[test]
fn a_number_whose_slot_is_somebodys_is_refused() {
    let fake = fake_of(1, Flush::Now);
    let area = numbered(&fake, 10);
    let stack = area.alloc_numbered(3, 1).expect("a stack");
    assert_eq!(taken(&area, 3), Some(Phase::Live));
    let pin = area.pin(stack.id()).expect("a live stack can be pinned");
    stack.hand_over(&(&fake).enter());
    assert_eq!(taken(&area, 3), Some(Phase::Dead));
    area.reap();
    assert_eq!(taken(&area, 3), Some(Phase::Pinned));
    drop(pin);
    assert_eq!(taken(&area, 3), None, "the last pin has given it back");
    assert_eq!(area.counters().refused, 3);
    assert_held_is_right(&area);
}

#[test]
fn a_number_that_has_no_slot_is_refused_and_so_is_who_comes_to_the_wrong_placement() {
    let fake = fake_of(1, Flush::Now);
    let area = numbered(&fake, 10);
    let error = |stack: Result<KernelStack<'_, &Fake>, _>| stack.map(drop).expect_err("it is refused");
    assert_eq!(error(area.alloc_numbered(10, 0)), AllocError::NumberOutOfRange { number: 10, slots: 10 });
    assert_eq!(error(area.alloc_numbered(u32::MAX, 0)), AllocError::NumberOutOfRange { number: u32::MAX, slots: 10 });
    assert_eq!(error(area.alloc(0)), AllocError::WantsNumber);
    assert_eq!(error(area.alloc_on(Node::new(0), 0)), AllocError::WantsNumber);
    assert_eq!(error(area.alloc_waiting(0)), AllocError::WantsNumber);
    assert_eq!(area.recount().free, 10);
    let other = fake_of(1, Flush::Now);
    let any = fake::area_of(&other, 10);
    assert_eq!(error(any.alloc_numbered(3, 0)), AllocError::NotNumbered);
    let unready: Area<'_> = StackArea::new(&other);
    assert_eq!(error(unready.alloc_numbered(3, 0)), AllocError::NotInitialised);
}

#[test]
fn a_slot_is_nobodys_until_every_cpu_has_flushed_it() {
    let fake = fake_of(3, Flush::WhenAsked);
    let area = numbered(&fake, 10);
    warm(&area, 0..10);
    area.pressure();
    fake.run_on(1);
    assert_eq!(taken(&area, 4), Some(Phase::Retiring), "another CPU's batch");
    fake.run_on(0);
    let stack = area.alloc_numbered_waiting(4, 1).expect("a stack");
    assert!(fake.reads_zero(stack.bottom(), SIZE), "INV-ZERO");
    assert_eq!(area.recount().free, 9);
}

#[test]
fn the_budget_is_honoured_and_low_numbers_stay() {
    let fake = fake_of(1, Flush::Now);
    let area = numbered(&fake, 400);
    warm(&area, 0..400);
    area.set_budget(40);
    assert_eq!(ready(&area), 400);
    // A few batches at a time.
    (0..3).for_each(|_| area.answer_pressure());
    assert_eq!(ready(&area), 40);
    assert_held_is_right(&area);
    let before = area.counters().populated;
    warm(&area, 0..40);
    assert_eq!(area.counters().populated, before, "the low numbers stay");
}

#[test]
fn giving_stacks_back_is_enough_to_keep_the_budget() {
    let fake = fake_of(1, Flush::Now);
    let area = numbered(&fake, 400);
    area.set_budget(40);
    for number in (0..400).cycle().take(2000) {
        warm(&area, number..number + 1);
        assert!(ready(&area) <= 40 + 64, "a CPU looks after it once in 64");
    }
}

#[test]
fn a_table_of_which_little_is_used_is_not_gone_through_in_vain() {
    let fake = Fake::new(1, 2000, 512 * MIB, Flush::Now);
    let area = numbered(&fake, 10_000);
    [0, 3000, 6000, 9999].iter().for_each(|&number| warm(&area, number..number + 1));
    area.set_budget(1);
    area.answer_pressure();
    assert_eq!(ready(&area), 1, "the hand came by all of them at once");
}

#[test]
fn trim_takes_what_was_idle_since_it_last_came() {
    let fake = fake_of(1, Flush::Now);
    let area = numbered(&fake, 300);
    warm(&area, 0..300);
    area.trim();
    assert_eq!(ready(&area), 300);
    warm(&area, 100..150);
    area.trim();
    assert_eq!(ready(&area), 50);
    area.trim();
    assert_eq!((ready(&area), fake.mapped_pages()), (0, area.recount().metadata_pages));
}

#[test]
fn trim_comes_by_each_stack_once_though_a_batch_is_less_than_a_page_of_records() {
    let fake = fake_of(1, Flush::Now);
    let area = numbered(&fake, 64);
    warm(&area, 0..64);
    area.trim();
    // The hand goes down: it meets these first, and must not take them for idle when it comes back for the rest.
    warm(&area, 48..64);
    area.trim();
    assert_eq!(ready(&area), 16);
}

#[test]
fn pressure_and_drain_take_everything_that_is_idle_and_nothing_else() {
    for drain in [false, true] {
        let fake = fake_of(2, Flush::WhenAsked);
        let area = numbered(&fake, 300);
        warm(&area, 0..300);
        let held: Vec<Stack<'_>> = (0..300).step_by(7).map(|i| area.alloc_numbered(i, 1).expect("ready")).collect();
        if drain {
            area.drain();
        } else {
            area.pressure();
            (0..60).for_each(|_| area.answer_pressure());
        }
        let recount = area.recount();
        assert_eq!((recount.live, recount.ready, recount.retiring), (held.len(), 0, 0), "drain: {drain}");
        held.iter().for_each(|stack| assert_guarded(&fake, stack));
        assert!(matches!(area.alloc(1), Err(AllocError::WantsNumber)), "what is free again is its number's");
    }
}

#[test]
fn who_would_rather_wait_gets_the_frames_of_idle_stacks() {
    let fake = Fake::new(2, 60, 16 * MIB, Flush::WhenAsked);
    let area = numbered(&fake, 100);
    let fit = (0..100).take_while(|&number| area.alloc_numbered(number, 1).is_ok()).count() as u32;
    assert!(fit > 5 && fit < 100);
    assert!(matches!(area.alloc_numbered(fit, 1), Err(AllocError::NoFrames(_))));
    let stack = area.alloc_numbered_waiting(fit, 1).expect("idle stacks were given back");
    assert_eq!(stack.id().slot().get(), fit);
}

#[test]
fn stacks_that_went_deep_become_cheap_again() {
    let fake = fake_of(2, Flush::WhenAsked);
    let area = numbered(&fake, 64);
    let life = |number: u32, pages: usize| {
        let stack = area.alloc_numbered_waiting(number, 1).expect("a stack");
        assert!(fake.reads_zero(stack.bottom(), SIZE), "INV-ZERO");
        (0..pages).for_each(|page| fake.write(stack.top().wrapping_sub(page * 4096 + 1), 1));
    };
    (0..64).for_each(|number| life(number, PAGES));
    (0..10).for_each(|_| (0..64).for_each(|number| life(number, 1)));
    let counters = area.counters();
    assert!(counters.recovered >= 64 - 3, "{counters:?}");
    let before = counters.pages_cleared;
    (0..64).for_each(|number| life(number, 1));
    assert!(area.counters().pages_cleared - before <= 64 + 3 * PAGES as u64);
}

#[test]
#[should_panic(expected = "INV-ZERO")]
fn a_dirty_bit_taken_back_without_a_flush_is_found() {
    let fake = fake_of(1, Flush::Now).that_forgets_to_flush();
    let area = numbered(&fake, 64);
    for pages in [PAGES, 1, 1, PAGES, 1] {
        for number in 0..64 {
            let stack = area.alloc_numbered(number, 1).expect("a stack");
            assert!(fake.reads_zero(stack.bottom(), SIZE), "INV-ZERO");
            (0..pages).for_each(|page| fake.write(stack.top().wrapping_sub(page * 4096 + 1), 1));
        }
    }
}

#[test]
fn every_failure_leaves_the_number_free() {
    let fake = Fake::new(2, 2000, 16 * MIB, Flush::Now).on_nodes(2);
    let area = numbered(&fake, 100);
    for number in 0..20 {
        for fails in 0..2 {
            fake.fail_in.store(fails, Ordering::Relaxed);
            let built = area.alloc_numbered(number, 1);
            // A frame that one node has not, the other has.
            fake.fail_in.store(-1, Ordering::Relaxed);
            drop(built);
            area.drain();
            assert_eq!(area.recount().free, 100);
        }
        assert_eq!(area.alloc_numbered(number, 1).map(|stack| stack.id().slot().get()), Ok(number));
    }
    area.drain();
    assert_eq!(fake.mapped_pages(), area.recount().metadata_pages);
}

#[test]
fn a_stack_stays_on_the_node_where_it_was_first() {
    let fake = Fake::new(2, 2000, 16 * MIB, Flush::Now).on_nodes(2);
    let area = numbered(&fake, 10);
    fake.run_on(1);
    warm(&area, 5..6);
    fake.run_on(0);
    let stack = area.alloc_numbered(5, 1).expect("a stack");
    assert_eq!(fake.node_of(stack.bottom()), Node::new(1));
}

#[test]
fn the_other_policies_of_clearing_hold_for_numbers_too() {
    for (scrub, cleared) in [(Scrub::Whole, 4), (Scrub::OnExit, 1), (Scrub::None, 0)] {
        let fake = fake_of(1, Flush::Now);
        let area = numbered(&fake, 10);
        area.set_scrub(scrub);
        let stack = area.alloc_numbered(5, 1).expect("a stack");
        let top = stack.top();
        fake.write(top.wrapping_sub(1), 1);
        drop(stack);
        assert_eq!(fake.reads_zero(top.wrapping_sub(8), 8), scrub == Scrub::OnExit);
        drop(area.alloc_numbered(5, 1));
        let twice = if scrub == Scrub::OnExit { 2 } else { 1 };
        assert_eq!(area.counters().pages_cleared, cleared * twice, "{scrub:?}");
    }
}

#[test]
fn a_write_around_the_mapping_is_cleared_when_the_number_comes_again() {
    let fake = fake_of(1, Flush::Now);
    let area = numbered(&fake, 10);
    let stack = area.alloc_numbered(5, 1).expect("a stack");
    area.mark_written(stack.bottom());
    fake.write_around(stack.bottom(), 1);
    drop(stack);
    let again = area.alloc_numbered(5, 1).expect("a stack");
    assert!(fake.reads_zero(again.bottom(), SIZE), "INV-ZERO");
}

#[test]
fn what_trim_could_not_unmap_at_once_goes_when_pressure_is_answered() {
    let fake = fake_of(3, Flush::WhenAsked);
    let area = numbered(&fake, 300);
    warm(&area, 0..300);
    area.trim();
    assert_eq!(ready(&area), 300);
    area.trim();
    // Each batch has to wait for the one before.
    (0..60).for_each(|_| area.answer_pressure());
    assert_eq!(ready(&area), 0, "nobody has taken any of them since trim first came by");
    assert_held_is_right(&area);
}

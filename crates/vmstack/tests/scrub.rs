//! What a stack reads as when it is handed out, what that costs, and that a mistake about it would be seen here.

mod fake;

use fake::{Area, Fake, Flush, SIZE, Stack, area_of, assert_held_is_right};
use vmstack::{Node, Platform, Scrub};

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;
const PAGES: usize = SIZE / PAGE;
/// How many deep stacks share a shootdown.
const TOGETHER: usize = 16;

fn fake_for(cpus: usize, stacks: usize, flush: Flush) -> Fake {
    Fake::new(cpus, 64 + stacks * PAGES, (stacks + 64) * 2 * SIZE + MIB, flush)
}

fn take<'f>(area: &'f Area<'f>, count: usize) -> Vec<Stack<'f>> {
    (0..count).map(|i| area.alloc(i).expect("there are enough")).collect()
}

/// A task that writes to the uppermost `pages` pages of its stack.
fn use_pages(fake: &Fake, stack: &Stack<'_>, pages: usize) {
    (1..=pages).for_each(|page| fake.write(stack.top().wrapping_sub(page * PAGE - 7), 0xee));
}

fn is_zero(fake: &Fake, stack: &Stack<'_>) -> bool {
    fake.reads_zero(stack.bottom(), SIZE)
}

/// Pages cleared while `run` runs.
fn cleared(area: &Area<'_>, run: impl FnOnce()) -> u64 {
    let before = area.counters().pages_cleared;
    run();
    area.counters().pages_cleared - before
}

#[test]
fn each_policy_clears_what_it_says_and_when() {
    // What is cleared when the stack is given back, and when it is handed out again, after one page of four was written.
    let expected = [(Scrub::Dirty, 0, 1), (Scrub::Whole, 0, 4), (Scrub::OnExit, 1, 0), (Scrub::None, 0, 0)];
    for (scrub, on_exit, on_use) in expected {
        let fake = fake_for(1, 4, Flush::Now);
        let area = area_of(&fake, 4);
        area.set_scrub(scrub);
        let stack = area.alloc(1).expect("there are enough");
        let bottom = stack.bottom();
        use_pages(&fake, &stack, 1);
        assert_eq!(cleared(&area, || drop(stack)), on_exit, "{scrub:?}");
        let ready_and_zero = fake.reads_zero(bottom, SIZE);
        assert_eq!(ready_and_zero, scrub == Scrub::OnExit, "what a task left is gone with it: {scrub:?}");
        let mut again = None;
        assert_eq!(cleared(&area, || again = area.alloc(2).ok()), on_use, "{scrub:?}");
        let again = again.expect("there are enough");
        assert_eq!((again.bottom(), is_zero(&fake, &again)), (bottom, scrub != Scrub::None), "{scrub:?}");
    }
}

#[test]
fn every_policy_but_none_hands_out_zeroes_however_deep_tasks_go() {
    for scrub in [Scrub::Dirty, Scrub::Whole, Scrub::OnExit] {
        for flush in [Flush::Now, Flush::WhenAsked] {
            let fake = fake_for(3, 400, flush).on_nodes(2);
            let area = area_of(&fake, 400);
            area.set_scrub(scrub);
            let mut live: Vec<Stack<'_>> = Vec::new();
            for i in 0_usize..3000 {
                let random = i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
                fake.run_on(random % 3);
                if live.len() > 80 || random % 5 < 2 && !live.is_empty() {
                    drop(live.swap_remove(random % live.len()));
                } else {
                    let stack = area.alloc(i).expect("there are enough");
                    assert!(is_zero(&fake, &stack), "INV-ZERO: {scrub:?} {flush:?} at {i}");
                    use_pages(&fake, &stack, random % (PAGES + 1));
                    live.push(stack);
                }
            }
            drop(live);
            assert_held_is_right(&area);
            assert_eq!(area.counters().recovered > 0, scrub != Scrub::Whole, "{scrub:?} {flush:?}");
        }
    }
}

#[test]
fn a_policy_may_be_changed_at_any_time_but_to_on_exit() {
    for before in [Scrub::Dirty, Scrub::Whole, Scrub::OnExit, Scrub::None] {
        for after in [Scrub::Dirty, Scrub::Whole] {
            let fake = fake_for(1, 8, Flush::Now);
            let area = area_of(&fake, 8);
            area.set_scrub(before);
            let stacks = take(&area, 8);
            stacks.iter().for_each(|stack| use_pages(&fake, stack, 3));
            drop(stacks);
            area.set_scrub(after);
            assert!(take(&area, 8).iter().all(|stack| is_zero(&fake, stack)), "{before:?} to {after:?}");
        }
    }
}

/// So many stacks that went deep, that were found to have done so, and that were given back: they are recovered.
fn go_deep(fake: &Fake, area: &Area<'_>, count: usize) {
    let stacks = take(area, count);
    stacks.iter().for_each(|stack| use_pages(fake, stack, PAGES));
    drop(stacks);
    // It is found when they are handed out again.
    drop(take(area, count));
}

#[test]
fn a_deep_stack_is_cheap_again_after_it_was_recovered() {
    let fake = fake_for(2, TOGETHER, Flush::Now);
    let area = area_of(&fake, TOGETHER);
    go_deep(&fake, &area, TOGETHER);
    assert_eq!(area.counters().recovered, TOGETHER as u64);
    for _ in 0..3 {
        let mut shallow = Vec::new();
        let pages = cleared(&area, || shallow = take(&area, TOGETHER));
        assert!(pages <= TOGETHER as u64, "{pages} pages for {TOGETHER} stacks with a page each");
        assert!(shallow.iter().all(|stack| is_zero(&fake, stack)), "INV-ZERO");
        shallow.iter().for_each(|stack| use_pages(&fake, stack, 1));
    }
    let counters = area.counters();
    assert_eq!((counters.populated, counters.recovered), (TOGETHER as u64, TOGETHER as u64), "once is enough");
}

#[test]
fn no_stack_is_handed_out_between_taking_its_bits_back_and_the_last_flush() {
    let fake = fake_for(8, 3 * TOGETHER, Flush::WhenAsked);
    let area = area_of(&fake, 3 * TOGETHER);
    for _ in 0..6 {
        go_deep(&fake, &area, TOGETHER);
        let stacks = take(&area, TOGETHER);
        // The TLB still knows what was written before, if it was not flushed: then this leaves no bit.
        stacks.iter().for_each(|stack| use_pages(&fake, stack, 2));
        drop(stacks);
        assert!(take(&area, TOGETHER).iter().all(|stack| is_zero(&fake, stack)), "INV-ZERO");
    }
    assert!(area.counters().recovered > 0);
}

/// Whether a write to a recovered stack is found when the stack is handed out again.
fn a_write_after_recovery_is_found(fake: &Fake) -> bool {
    let area = area_of(fake, TOGETHER);
    go_deep(fake, &area, TOGETHER);
    assert_eq!(area.counters().recovered, TOGETHER as u64);
    let stacks = take(&area, TOGETHER);
    stacks.iter().for_each(|stack| use_pages(fake, stack, 1));
    drop(stacks);
    take(&area, TOGETHER).iter().all(|stack| is_zero(fake, stack))
}

#[test]
fn a_stale_translation_would_hide_a_write_and_this_would_see_it() {
    assert!(a_write_after_recovery_is_found(&fake_for(2, TOGETHER, Flush::Now)));
    let planted = fake_for(2, TOGETHER, Flush::Now).that_forgets_to_flush();
    assert!(
        !a_write_after_recovery_is_found(&planted),
        "the bits were taken back without a flush, and nothing was noticed"
    );
}

#[test]
fn what_waits_to_be_recovered_is_bounded_however_late_others_flush() {
    const CPUS: usize = 200;
    let fake = fake_for(CPUS, 600, Flush::WhenAsked);
    let area = area_of(&fake, 600);
    go_deep(&fake, &area, 300);
    let ready = area.recount().ready;
    fake.run_on(1);
    let live = take(&area, ready);
    let made = area.counters().populated - 300;
    assert!(made <= (2 * 64 + 2 * TOGETHER) as u64, "{made} stacks are kept from other CPUs");
    drop(live);
    assert_held_is_right(&area);
}

#[test]
fn memory_pressure_reaches_what_is_being_recovered_too() {
    let fake = fake_for(60, 2 * TOGETHER, Flush::WhenAsked);
    let area = area_of(&fake, 2 * TOGETHER);
    go_deep(&fake, &area, TOGETHER);
    assert!(area.counters().recovered > 0);
    area.pressure();
    assert!(area.recount().ready > 0, "some still wait for other CPUs");
    (0..300).for_each(|_| area.answer_pressure());
    assert_eq!((area.recount().ready, area.recount().retiring), (0, 0));
}

#[test]
fn a_mark_makes_one_life_dear_and_not_the_next() {
    let fake = fake_for(1, 4, Flush::Now);
    let area = area_of(&fake, 4);
    let stack = area.alloc(1).expect("there are enough");
    area.mark_written(stack.bottom());
    assert_eq!(cleared(&area, || drop(stack)), PAGES as u64);
    assert_eq!(cleared(&area, || drop(area.alloc(2))), 0);
}

/// A device writes to the bottom of a stack.
fn device_writes(fake: &Fake, stack: &Stack<'_>) {
    fake.write_around(stack.bottom(), 0x77);
}

#[test]
fn a_write_around_the_mapping_is_scrubbed_whenever_it_comes_after_its_mark() {
    for scrub in [Scrub::Dirty, Scrub::Whole, Scrub::OnExit] {
        let fake = fake_for(1, 4, Flush::Now);
        let area = area_of(&fake, 1);
        area.set_scrub(scrub);
        let check = |when: &str| {
            let stack = area.alloc(1).expect("the one stack is back");
            assert!(is_zero(&fake, &stack), "INV-ZERO: {when}, {scrub:?}");
            stack
        };
        let stack = check("first");
        // Before the task's own writes.
        area.mark_written(stack.bottom());
        device_writes(&fake, &stack);
        use_pages(&fake, &stack, PAGES);
        drop(stack);
        let stack = check("before the task used it");
        // While it runs, with its own write to the same page before and after.
        fake.write(stack.bottom().wrapping_add(8), 1);
        area.mark_written(stack.bottom());
        device_writes(&fake, &stack);
        fake.write(stack.bottom().wrapping_add(16), 1);
        drop(stack);
        let stack = check("while the task ran");
        // After its end, while a pin holds it.
        let (pin, bottom) = (area.pin(stack.id()).expect("it is live"), stack.bottom());
        drop(stack);
        area.mark_written(bottom);
        fake.write_around(bottom, 0x55);
        drop(pin);
        let stack = check("under a pin");
        // After its end, before the next task gives it back.
        area.mark_written(bottom);
        stack.hand_over(&(&fake).enter());
        fake.write_around(bottom, 0x66);
        area.reap();
        drop(check("handed over"));
    }
}

#[test]
fn a_written_stack_is_cleared_on_whatever_way_it_goes_back() {
    let fake = fake_for(2, 64, Flush::Now).on_nodes(2);
    let area = area_of(&fake, 64);
    let far: Vec<_> = (0..20).map(|i| area.alloc_on(Node::new(1), i).expect("there are enough")).collect();
    for stack in &far {
        area.mark_written(stack.bottom());
        device_writes(&fake, stack);
    }
    drop(far);
    fake.run_on(1);
    assert!(take(&area, 20).iter().all(|stack| is_zero(&fake, stack)), "INV-ZERO after the way home");
    go_deep(&fake, &area, 10);
    let deep = take(&area, 10);
    for stack in &deep {
        area.mark_written(stack.bottom());
        device_writes(&fake, stack);
    }
    drop(deep);
    assert!(take(&area, 20).iter().all(|stack| is_zero(&fake, stack)), "INV-ZERO after it was set aside");
}

#[test]
fn deep_stacks_are_not_all_away_to_be_flushed_when_there_are_no_frames_for_another() {
    let fake = Fake::new(3, 34, 16 << 20, Flush::WhenAsked);
    let area = area_of(&fake, 100);
    let all: Vec<_> = core::iter::from_fn(|| area.alloc(1).ok()).collect();
    let count = all.len();
    drop(all);
    for _ in 0..2 {
        let all: Vec<_> = (0..count).map(|_| area.alloc(1).expect("it is ready")).collect();
        all.iter().for_each(|stack| {
            (0..SIZE / 4096).for_each(|page| fake.write(stack.bottom().wrapping_add(page * 4096), 1));
        });
    }
    assert_eq!(area.recount().ready, count);
    let stack = area.alloc(1).expect("many are ready");
    assert!(fake.reads_zero(stack.bottom(), SIZE), "INV-ZERO");
}

//! What CPUs and depots keep: how often a depot is visited, how much is kept, and how it is given back.

mod fake;

use fake::{Area, Fake, Flush, SIZE, Stack, area_of, assert_held_is_right};
use vmstack::Platform;

const MIB: usize = 1 << 20;
/// The fewest rounds of a magazine, and the most.
const ROUNDS: core::ops::RangeInclusive<usize> = 8..=64;
/// The most stacks that one CPU keeps in its two magazines.
const KEPT: usize = 2 * 64;

fn fake_for(cpus: usize, stacks: usize, flush: Flush) -> Fake {
    Fake::new(cpus, 64 + stacks * 4, (stacks + 64) * 2 * SIZE + MIB, flush)
}

fn take<'f>(area: &'f Area<'f>, count: usize) -> Vec<Stack<'f>> {
    (0..count).map(|i| area.alloc(i).expect("there are enough")).collect()
}

/// Has `count` stacks made and given back on this CPU.
fn warm(area: &Area<'_>, count: usize) {
    drop(take(area, count));
}

fn visits(area: &Area<'_>) -> u64 {
    let counters = area.counters();
    counters.from_depot + counters.returned
}

/// How many stacks are ready, but in no depot: everything that another CPU does not get.
fn out_of_reach(fake: &Fake, area: &Area<'_>, cpu: usize) -> usize {
    let ready = area.recount().ready;
    fake.run_on(cpu);
    let before = area.counters().populated;
    let mut got = Vec::new();
    while area.counters().populated == before && got.len() <= ready {
        got.push(area.alloc(0).expect("there are enough"));
    }
    ready + 1 - got.len()
}

/// The numbers of operations between visits to the depot, while stacks are given back when `free` says so, and taken when not.
fn gaps(area: &Area<'_>, live: &mut Vec<Stack<'_>>, operations: usize, free: impl Fn(usize) -> bool) -> Vec<usize>
where
{
    let (mut gaps, mut last) = (Vec::new(), 0);
    for i in 0..operations {
        let before = visits(area);
        if free(i) && !live.is_empty() {
            live.pop();
        }
        if visits(area) != before {
            gaps.push(i - last);
            last = i;
        }
    }
    gaps
}

#[test]
fn between_two_visits_to_the_depot_there_are_as_many_operations_as_rounds_whatever_the_pattern() {
    // What comes next, from the number of the operation and of visits so far: true for giving back. The last ones are the worst: they
    // turn round as soon as the depot was visited, or a little later.
    let patterns: [fn(usize, usize) -> bool; 8] = [
        |i, _| i % 2 == 0,
        |i, _| i % 8 < 4,
        |i, _| i % 18 < 9,
        |i, _| i % 128 < 64,
        |i, _| i.wrapping_mul(0x9e37_79b9).rotate_left(11) % 3 == 0,
        |_, visits| visits % 2 == 0,
        |i, visits| visits % 2 == 0 || i % 5 == 0,
        |i, visits| visits % 4 < 2 && i % 3 != 0,
    ];
    for (number, frees) in patterns.into_iter().enumerate() {
        let fake = fake_for(1, 700, Flush::Now);
        let area = area_of(&fake, 700);
        let mut live = take(&area, 600);
        live.truncate(300);
        let (mut last, mut seen) = (None, Vec::new());
        for i in 0..4000 {
            let before = visits(&area);
            if live.len() > 500 || !live.is_empty() && frees(i, seen.len()) {
                live.pop();
            } else {
                live.push(area.alloc(i).expect("there are enough"));
            }
            let now = visits(&area);
            if now != before {
                assert!(now == before + 1, "one magazine at a time");
                seen.extend(last.map(|last| i - last));
                last = Some(i);
            }
        }
        let shortest = seen.iter().min();
        assert!(shortest.is_none_or(|gap| gap >= ROUNDS.start()), "pattern {number}: {seen:?}");
    }
}

#[test]
fn a_cpu_that_comes_to_the_depot_often_gets_larger_magazines_and_one_that_comes_seldom_smaller_ones() {
    let fake = fake_for(1, 600, Flush::Now);
    let area = area_of(&fake, 600);
    let mut live = take(&area, 600);
    let gaps_of_frees = |live: &mut Vec<Stack<'_>>| gaps(&area, live, 400, |_| true);
    assert_eq!(gaps_of_frees(&mut live).last(), Some(ROUNDS.end()), "larger");
    // One visit, many hits, and so on: each visit comes long after the last one.
    for _ in 0..4 {
        let before = visits(&area);
        (0..10_000).for_each(|i| drop(area.alloc(i)));
        while visits(&area) == before {
            live.push(area.alloc(1).expect("there are enough"));
        }
    }
    (0..10_000).for_each(|i| drop(area.alloc(i)));
    let after = gaps_of_frees(&mut live);
    assert!(after[1] <= *ROUNDS.start() * 2, "smaller: {after:?}");
}

#[test]
fn small_magazines_in_a_depot_make_no_more_visits_than_full_ones() {
    let fake = fake_for(3, 400, Flush::Now).on_nodes(2);
    let area = area_of(&fake, 400);
    let stacks: Vec<_> = (0..100).map(|i| area.alloc_on(vmstack::Node::new(1), i).expect("there are enough")).collect();
    // CPU 0 is on node 0: it leaves them in small magazines.
    for stack in stacks {
        drop(stack);
        area.answer_pressure();
        area.leave_cpu();
    }
    fake.run_on(1);
    let mut live = Vec::new();
    let (mut last, mut before) = (None, visits(&area));
    for i in 0..64 {
        live.push(area.alloc(i).expect("there are enough"));
        if visits(&area) != before {
            let gap = last.map_or(usize::MAX, |last| i - last);
            assert!(gap >= *ROUNDS.start(), "{gap} operations after the last visit");
            (last, before) = (Some(i), visits(&area));
        }
    }
    assert_eq!(area.counters().populated, 100, "all of them came from the depot");
}

#[test]
fn a_stack_that_is_freed_on_another_cpu_comes_back_through_the_depot() {
    let fake = fake_for(2, 400, Flush::Now);
    let area = area_of(&fake, 400);
    for round in 0..6 {
        fake.run_on(0);
        let stacks = take(&area, 200);
        fake.run_on(1);
        drop(stacks);
        let populated = area.counters().populated;
        assert!(populated <= 200 + KEPT as u64, "round {round}: {populated} stacks were made for 200 tasks");
    }
    assert_held_is_right(&area);
}

#[test]
fn what_is_kept_stays_within_the_budget_and_what_cpus_keep() {
    for (budget, cpus) in [(0, 1), (0, 3), (1, 2), (10, 2), (100, 1), (200, 3)] {
        let fake = fake_for(cpus, 450, Flush::Now);
        let area = area_of(&fake, 450);
        area.set_budget(budget);
        for cpu in 0..cpus {
            fake.run_on(cpu);
            warm(&area, 450 - area.recount().ready);
        }
        // Two magazines each: one stack at least, and their share of half the budget.
        let kept = (budget / 2).max(2 * cpus) + cpus * ROUNDS.start();
        let ready = area.recount().ready;
        assert!(ready <= budget + kept, "budget {budget}, {cpus} CPUs: {ready} are ready");
        assert_held_is_right(&area);
    }
}

#[test]
fn a_smaller_budget_is_kept_to_by_cpus_that_were_used_to_more() {
    let fake = fake_for(1, 600, Flush::Now);
    let area = area_of(&fake, 600);
    let mut live = take(&area, 600);
    live.truncate(300);
    area.set_budget(16);
    // As many operations between two visits as leave the size of a magazine as it is.
    for _ in 0..3 {
        let before = visits(&area);
        (0..1000).for_each(|i| drop(area.alloc(i)));
        while visits(&area) == before {
            live.pop();
        }
    }
    (0..100).for_each(|_| area.answer_pressure());
    let ready = area.recount().ready;
    assert!(ready <= 16 + 2 * 4, "{ready} are ready");
}

#[test]
fn a_budget_that_shrinks_far_is_reached_in_steps_that_end() {
    let fake = fake_for(1, 600, Flush::Now);
    let area = area_of(&fake, 600);
    warm(&area, 600);
    area.set_budget(0);
    let before = area.counters().unmapped;
    area.answer_pressure();
    let once = area.counters().unmapped - before;
    assert!((32..=128).contains(&once), "{once} stacks were unmapped under one guard");
    (0..60).for_each(|_| area.answer_pressure());
    assert!(area.recount().ready <= KEPT);
}

#[test]
fn memory_pressure_gives_everything_back_on_all_cpus_once_they_answer() {
    for flush in [Flush::Now, Flush::WhenAsked] {
        let fake = fake_for(3, 800, flush);
        let area = area_of(&fake, 800);
        let live: Vec<Vec<Stack<'_>>> = (0..3)
            .map(|cpu| {
                fake.run_on(cpu);
                take(&area, 250)
            })
            .collect();
        for (cpu, stacks) in live.into_iter().enumerate() {
            fake.run_on(cpu);
            drop(stacks);
        }
        area.pressure();
        let ready = area.recount().ready;
        for _ in 0..40 {
            for cpu in 0..3 {
                fake.run_on(cpu);
                area.answer_pressure();
            }
        }
        let recount = area.recount();
        assert_eq!((recount.ready, recount.retiring), (0, 0), "{flush:?}: of {ready}");
        assert_held_is_right(&area);
        warm(&area, 10);
        area.answer_pressure();
        assert_eq!(area.recount().ready, 10, "what was answered is not answered again");
    }
}

#[test]
fn frames_that_every_cpu_has_flushed_do_not_wait_for_the_next_batch() {
    let fake = fake_for(2, 64, Flush::WhenAsked);
    let area = area_of(&fake, 64);
    warm(&area, 20);
    area.pressure();
    assert!(area.recount().retiring > 0, "a batch is in flight");
    for _ in 0..8 {
        area.answer_pressure();
    }
    let recount = area.recount();
    assert_eq!((recount.retiring, recount.ready), (0, 0));
    // The same by nothing but exchanges.
    warm(&area, 64);
    area.pressure();
    let taken = take(&area, 40);
    assert!(area.recount().retiring <= 32 && taken.len() == 40);
}

#[test]
fn what_was_idle_is_trimmed_and_not_more() {
    let fake = fake_for(3, 400, Flush::Now);
    let area = area_of(&fake, 400);
    warm(&area, 300);
    fake.run_on(1);
    area.trim();
    let before = area.recount().ready;
    // In this interval, all but some are needed.
    let live = take(&area, 100);
    drop(live);
    area.trim();
    let after = area.recount().ready;
    assert!(before - after <= 300 - 100, "what was needed stays: {before} {after}");
    assert!(before - after >= 300 - 100 - KEPT - 64, "what was not goes: {before} {after}");
    // Now nothing is needed of what the depot has, however little it is.
    area.trim();
    area.trim();
    let (kept, ready) = (2 * KEPT, area.recount().ready);
    assert!(ready <= kept, "{ready} are ready");
    assert_eq!(out_of_reach(&fake, &area, 2), ready, "the depot is empty");
}

#[test]
fn what_was_idle_goes_at_the_ticks_where_shootdowns_take_their_time() {
    let fake = fake_for(6, 400, Flush::WhenAsked);
    let area = area_of(&fake, 400);
    warm(&area, 300);
    area.trim();
    area.trim();
    assert!(area.recount().ready > 200, "a batch at a time");
    for _ in 0..100 {
        for cpu in 0..6 {
            fake.run_on(cpu);
            area.answer_pressure();
        }
    }
    assert!(area.recount().ready <= 2 * KEPT, "{} are ready", area.recount().ready);
}

#[test]
fn a_single_magazine_that_nobody_takes_is_trimmed_too() {
    let fake = fake_for(1, 64, Flush::Now);
    let area = area_of(&fake, 64);
    warm(&area, 5);
    area.leave_cpu();
    area.trim();
    assert_eq!(area.recount().ready, 5, "it was not idle yet");
    area.trim();
    assert_eq!(area.recount().ready, 0);
}

#[test]
fn a_cpu_that_leaves_leaves_nothing_behind() {
    let fake = fake_for(2, 200, Flush::WhenAsked);
    let area = area_of(&fake, 200);
    let mut stacks = take(&area, 100);
    let dead = stacks.pop().expect("there are 100");
    for stack in &stacks[..40] {
        // Deep: some are being recovered, some wait for it.
        (0..4).for_each(|page| fake.write(stack.bottom().wrapping_add(page * 4096), 1));
    }
    drop(stacks);
    drop(take(&area, 60));
    dead.hand_over(&(&fake).enter());
    area.leave_cpu();
    let recount = area.recount();
    assert_eq!((recount.dead, recount.retiring, recount.ready), (0, 0, 100));
    fake.run_on(1);
    let live = take(&area, 100);
    assert_eq!(area.counters().populated, 100, "another CPU gets all of them");
    drop(live);
    assert_held_is_right(&area);
}

#[test]
fn draining_ends_though_others_go_on() {
    let fake = fake_for(2, 400, Flush::WhenAsked);
    let area = area_of(&fake, 400);
    warm(&area, 200);
    // At each step, another CPU leaves there what it frees.
    let other = || {
        fake.run_on(1);
        warm(&area, 150);
        area.leave_cpu();
        fake.run_on(0);
    };
    fake::cpus::interrupted_by(&other, || area.drain());
    assert_held_is_right(&area);
}

#[test]
fn a_leaked_stack_is_not_taken_for_one_that_is_kept() {
    let fake = fake_for(2, 64, Flush::Now);
    let area = vmstack::StackArea::new(&fake);
    let config = vmstack::AreaConfig::new(fake.range(), 64, SIZE, 1);
    // SAFETY: the fake's memory is this area's alone.
    unsafe { area.init(&config) }.expect("the area is initialised");
    let mut stacks = take(&area, 10);
    fake.run_on(1);
    drop(stacks.pop());
    fake.run_on(0);
    drop(stacks);
    assert_eq!((area.counters().leaked, area.recount().leaked), (1, 1), "that CPU is not one of the area's");
    assert_held_is_right(&area);
}

//! The life of a stack: asked for, handed out, used, pinned, handed over, given back, and refused when it must be.

#![expect(clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]

mod fake;

use core::sync::atomic::Ordering;
use fake::{Fake, FakeError, Flush, SIZE, area_of, assert_guarded};
use vmstack::{AllocError, InitError, KernelStack, PinError, Platform, RawStack, StackArea};

const MIB: usize = 1 << 20;
const CPUS: usize = 3;

#[test]
fn a_stack_reads_as_zero_however_it_was_used_before() {
    let fake = Fake::new(1, 64, 4 * MIB, Flush::Now);
    let area = area_of(&fake, 8);
    for round in 0..4 {
        let stack = area.alloc(round).unwrap();
        assert!(fake.reads_zero(stack.bottom(), SIZE), "INV-ZERO in round {round}");
        assert_guarded(&fake, &stack);
        fake.write(stack.top().wrapping_sub(8 + round * 4096), 0xff);
    }
    let counters = area.counters();
    assert_eq!((counters.hits, counters.populated), (3, 1));
    // Round n finds the pages that rounds 0 to n-1 dirtied: the bits are not taken back while the stack is cached.
    assert_eq!(counters.pages_cleared, 1 + 2 + 3);
    assert_eq!(counters.pages_clean, 3 + 2 + 1);
}

#[test]
fn the_platform_is_told_of_each_stack_once_before_it_is_first_mapped() {
    const SLOTS: usize = 70;
    let fake = Fake::new(1, 512, 4 * MIB, Flush::Now);
    let area = area_of(&fake, SLOTS);
    assert_eq!(fake.stacks_foreseen(), 0);
    let first = area.alloc(0).unwrap();
    assert_eq!(fake.stacks_foreseen(), 64, "a page of records");
    let others: Vec<_> = (1..SLOTS).map(|owner| area.alloc(owner).unwrap()).collect();
    assert_eq!(fake.stacks_foreseen(), SLOTS, "no more than there are");
    drop((first, others));
    area.drain();
    // What `map` is told now is what it said itself: the platform looks.
    let again = area.alloc(0).unwrap();
    assert_eq!((area.counters().populated, fake.stacks_foreseen()), (SLOTS as u64 + 1, SLOTS));
    drop(again);
}

#[test]
fn a_write_around_the_mapping_is_scrubbed_too() {
    let fake = Fake::new(1, 64, 4 * MIB, Flush::Now);
    let area = area_of(&fake, 8);
    let stack = area.alloc(1).unwrap();
    let low = stack.bottom();
    area.mark_written(low);
    fake.write_around(low, 0x77);
    drop(stack);
    let again = area.alloc(2).unwrap();
    assert_eq!(again.bottom(), low, "the same slot, from the cache");
    assert!(fake.reads_zero(low, SIZE), "INV-ZERO");
}

#[test]
fn nothing_is_kept_when_initialisation_fails() {
    for (fail_in, error) in
        [(0, InitError::NoFrames(FakeError::NoFrames)), (1, InitError::NotMapped(FakeError::NoTables))]
    {
        let fake = Fake::new(1, 64, 4 * MIB, Flush::Now);
        let area = StackArea::new(&fake);
        fake.fail_in.store(fail_in, Ordering::Relaxed);
        assert_eq!(unsafe { area.init(&fake.config(4, SIZE)) }.map(|_| ()), Err(error));
        assert_eq!((fake.mapped_pages(), fake.frames_free()), (0, 64));
        assert_eq!(area.alloc(1).map(|_| ()), Err(AllocError::NotInitialised));
        unsafe { area.init(&fake.config(4, SIZE)) }.expect("it may be tried again");
        assert_eq!(unsafe { area.init(&fake.config(4, SIZE)) }.map(|_| ()), Err(InitError::AlreadyInitialised));
    }
}

#[test]
fn every_failure_of_an_allocation_leaves_nothing_behind() {
    for fail_in in 0..4 {
        let fake = Fake::new(1, 64, 4 * MIB, Flush::Now);
        let area = area_of(&fake, 4);
        fake.fail_in.store(fail_in, Ordering::Relaxed);
        let first = area.alloc(1).map(|_| ());
        fake.fail_in.store(-1, Ordering::Relaxed);
        // The record and the stack: frames and a mapping each.
        assert!(first.is_err(), "call {fail_in} was made to fail");
        assert!(matches!(first, Err(AllocError::NoFrames(_) | AllocError::NotMapped(_))), "{first:?}");
        let recount = area.recount();
        assert_eq!((recount.mapped(), recount.free, recount.miscounted), (0, 4, 0));
        assert_eq!(fake.mapped_pages(), recount.metadata_pages, "metadata pages stay, stacks do not");
        drop(area.alloc(2).expect("the next one succeeds"));
        assert_eq!(area.recount().ready, 1);
    }
}

#[test]
fn the_last_slot_is_given_and_the_next_is_refused() {
    let fake = Fake::new(1, 128, 4 * MIB, Flush::Now);
    let area = area_of(&fake, 5);
    let stacks: Vec<_> = (0..5).map(|i| area.alloc(i).unwrap()).collect();
    assert_eq!(area.alloc(9).map(|_| ()), Err(AllocError::OutOfSlots { slots: 5 }));
    stacks.iter().for_each(|stack| assert_guarded(&fake, stack));
    drop(stacks);
    assert_eq!(area.recount().ready, 5);
}

#[test]
fn an_allocation_that_may_wait_takes_back_what_the_cpu_caches() {
    // 2 metadata pages and three stacks' frames.
    let fake = Fake::new(2, 2 + 3 * 4, 4 * MIB, Flush::WhenAsked);
    let area = area_of(&fake, 8);
    let stacks: Vec<_> = (0..3).map(|i| area.alloc(i).unwrap()).collect();
    drop(stacks);
    fake.run_on(1);
    assert_eq!(area.alloc(4).map(|_| ()), Err(AllocError::NoFrames(FakeError::NoFrames)), "CPU 0 caches them all");
    fake.run_on(0);
    area.drain();
    assert_eq!((area.recount().ready, area.recount().retiring, fake.frames_free()), (0, 0, 12));
    fake.run_on(1);
    assert!(area.alloc_waiting(5).is_ok());
}

#[test]
fn frames_stay_away_until_the_last_cpu_has_flushed() {
    let fake = Fake::new(CPUS, 512, 8 * MIB, Flush::WhenAsked);
    let area = area_of(&fake, 64);
    let stacks: Vec<_> = (0..40).map(|i| area.alloc(i).unwrap()).collect();
    for (i, stack) in stacks.iter().enumerate() {
        // Another CPU has the translation; if frames came back early, the fake would panic.
        fake.run_on(i % CPUS);
        fake.write(stack.bottom(), 1);
    }
    fake.run_on(0);
    drop(stacks);
    area.drain();
    assert!(area.counters().shootdowns >= 2, "{:?}", area.counters());
    let recount = area.recount();
    assert_eq!((recount.mapped(), recount.retiring, recount.free), (0, 0, 64));
}

#[test]
fn the_next_task_gives_a_dead_stack_back_and_not_before() {
    let fake = Fake::new(1, 64, 4 * MIB, Flush::Now);
    let area = area_of(&fake, 4);
    let stack = area.alloc(1).unwrap();
    let id = stack.id();
    let platform = &fake;
    stack.hand_over(&platform.enter());
    let recount = area.recount();
    assert_eq!((recount.dead, recount.ready), (1, 0));
    assert_eq!(area.pin(id).map(|_| ()), Err(PinError::Gone), "a dead task's stack is not for reading any more");
    area.reap();
    assert_eq!((area.recount().dead, area.recount().ready), (0, 1));
}

#[test]
fn a_pin_delays_the_stack_that_it_is_of_and_no_other() {
    let fake = Fake::new(1, 64, 4 * MIB, Flush::Now);
    let area = area_of(&fake, 4);
    let (stack, other) = (area.alloc(1).unwrap(), area.alloc(2).unwrap());
    let (first, second) = (area.pin(stack.id()).unwrap(), area.pin(stack.id()).unwrap());
    let platform = &fake;
    stack.hand_over(&platform.enter());
    area.reap();
    drop(other);
    assert_eq!((area.recount().pinned, area.recount().ready), (1, 1));
    drop(first);
    assert_eq!(area.recount().pinned, 1, "the other pin holds it");
    drop(second);
    assert_eq!((area.recount().pinned, area.recount().ready), (0, 2));
}

#[test]
fn two_deaths_without_a_reap_between_lose_nothing() {
    let fake = Fake::new(1, 64, 4 * MIB, Flush::Now);
    let area = area_of(&fake, 4);
    let (first, second) = (area.alloc(1).unwrap(), area.alloc(2).unwrap());
    let platform = &fake;
    first.hand_over(&platform.enter());
    second.hand_over(&platform.enter());
    area.reap();
    let recount = area.recount();
    assert_eq!((recount.dead, recount.ready, recount.leaked), (0, 2, 0));
}

#[test]
fn a_stack_survives_being_a_plain_word() {
    let fake = Fake::new(1, 64, 4 * MIB, Flush::Now);
    let area = area_of(&fake, 4);
    let stack = area.alloc(1).unwrap();
    let id = stack.id();
    let word = stack.into_raw().get();
    assert_eq!(area.recount().live, 1);
    let stack = unsafe { KernelStack::from_raw(&area, RawStack::from_word(word)) };
    assert_eq!(stack.id(), id);
    drop(stack);
    assert_eq!((area.recount().live, area.counters().leaked), (0, 0));
}

#[test]
fn a_pin_reads_words_of_the_stack_and_nothing_else() {
    let fake = Fake::new(1, 64, 4 * MIB, Flush::Now);
    let area = area_of(&fake, 4);
    let stack = area.alloc(1).unwrap();
    fake.write(stack.top().wrapping_sub(8), 0x5a);
    let pin = area.pin(stack.id()).unwrap();
    assert_eq!(pin.word(pin.top().wrapping_sub(8)), Some(0x5a));
    assert_eq!(pin.word(pin.top()), None);
    assert_eq!(pin.word(pin.bottom().wrapping_sub(8)), None);
    assert_eq!(pin.word(pin.bottom().wrapping_add(4)), None);
    assert_eq!((pin.watermark(), stack.watermark()), (8, 8));
}

#[test]
fn a_cpu_that_was_not_announced_is_refused() {
    let fake = Fake::new(2, 64, 4 * MIB, Flush::Now);
    let area = StackArea::new(&fake);
    let config = vmstack::AreaConfig::new(fake.range(), 4, SIZE, 1);
    unsafe { area.init(&config) }.unwrap();
    fake.run_on(1);
    assert!(matches!(area.alloc(1), Err(AllocError::UnknownCpu { cpus: 1, .. })));
}

//! Tasks that die while a device has their stack: who holds it, when it goes to whom, and what that one reads.

#![expect(clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]

mod fake;

use core::sync::atomic::{AtomicBool, Ordering};

use fake::cpus::become_cpu;
use fake::{Area, Fake, Flush, SIZE, Stack, area_of, assert_held_is_right, numbered_area_of, read};
use vmstack::{
    Direction, DmaDoor, DmaPolicy, DmaRequest, KernelStack, Located, Passage, Platform, Refusal, Scrub, TransferList,
};

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;
const HIGH: u64 = 1 << 32;

type Door<'a, 'f> = DmaDoor<'a, &'f Fake>;

fn opened(fake: &Fake, door: &Door<'_, '_>, policy: DmaPolicy) {
    door.set_policy(policy);
    unsafe { door.fill_pool(&fake.region(HIGH, MIB)) }.expect("the region is good");
    door.look();
}

/// Runs `test` with an area of one stack, so that its next owner gets that one, in each placement and with each way to scrub.
fn each_way(policy: DmaPolicy, test: impl Fn(&Fake, &Area<'_>, &Door<'_, '_>, &dyn Fn() -> Option<(usize, bool)>)) {
    for scrub in [Scrub::Dirty, Scrub::Whole, Scrub::OnExit] {
        for numbered in [false, true] {
            let fake = Fake::new(2, 64, 8 * MIB, Flush::Now);
            let (area, platform) = (if numbered { numbered_area_of(&fake, 1) } else { area_of(&fake, 1) }, &fake);
            area.set_scrub(scrub);
            let areas = [&area];
            let door = DmaDoor::new(&platform, &areas);
            opened(&fake, &door, policy);
            // The word of the stack that the next owner gets, and whether it reads as zero. None if there is none.
            let next = || {
                let stack = if numbered { area.alloc_numbered(0, 9) } else { area.alloc(9) }.ok()?;
                let zero = fake.reads_zero(stack.bottom(), SIZE);
                Some((stack.into_raw().get() as usize, zero))
            };
            test(&fake, &area, &door, &next);
            assert_held_is_right(&area);
        }
    }
}

fn stack_of<'f>(area: &'f Area<'f>, word: usize) -> Stack<'f> {
    unsafe { KernelStack::from_raw(area, vmstack::RawStack::from_word(word as u64)) }
}

/// The task dies, and the next one on its CPU gives its stack back.
fn die(fake: &Fake, area: &Area<'_>, stack: Stack<'_>) {
    stack.hand_over(&fake.enter());
    area.reap();
}

#[test]
fn a_mapped_stack_is_nobodys_until_its_device_is_done_and_reads_as_zero_then() {
    each_way(DmaPolicy::Map, |fake, area, door, next| {
        let stack = stack_of(area, next().expect("it is free").0);
        // A page that its task never touched: nothing but the mark tells that it was written.
        let request = DmaRequest::new(stack.bottom().wrapping_add(100), 3 * PAGE, Direction::FromDevice);
        let transfer = unsafe { door.pass(&request) }.expect("it passes");
        let frames = fake.frames_free();
        fake.device_writes(transfer.segments(), &[0x11; PAGE]);
        die(fake, area, stack);
        assert_eq!(area.recount().pinned, 1, "INV-LIVE");
        fake.run_on(1);
        assert!(next().is_none(), "INV-LIVE: it is given to nobody");
        area.drain();
        area.pressure();
        assert_eq!(fake.frames_free(), frames, "INV-LIVE: nor are its frames");
        // The device goes on, and finishes.
        fake.device_writes(transfer.segments(), &[0x22; 3 * PAGE]);
        assert_eq!(fake.device_reads(transfer.segments()), [0x22; 3 * PAGE]);
        unsafe { transfer.finish() }.expect("a pinned stack is there");
        let (word, zero) = next().expect("it is free again");
        assert!(zero, "INV-ZERO");
        drop(stack_of(area, word));
        // And in the life after that nothing is left of the mark: no more is cleared than the task wrote.
        area.drain();
        assert_eq!(fake.frames_free(), frames + SIZE / PAGE);
    });
}

#[test]
fn a_transfer_that_ends_before_its_task_leaves_a_mark_until_the_stack_is_cleared() {
    each_way(DmaPolicy::Map, |fake, area, door, next| {
        let stack = stack_of(area, next().expect("it is free").0);
        let request = DmaRequest::new(stack.bottom(), 64, Direction::FromDevice);
        let transfer = unsafe { door.pass(&request) }.expect("it passes");
        fake.device_writes(transfer.segments(), &[0x33; 64]);
        unsafe { transfer.finish() }.expect("its task is alive");
        assert_eq!(read(stack.bottom(), 64), [0x33; 64]);
        die(fake, area, stack);
        assert!(next().expect("it is free").1, "INV-ZERO");
    });
}

#[test]
fn what_a_device_only_reads_marks_nothing() {
    let fake = Fake::new(1, 64, 8 * MIB, Flush::Now);
    let (area, platform) = (area_of(&fake, 1), &fake);
    let areas = [&area];
    let door = DmaDoor::new(&platform, &areas);
    opened(&fake, &door, DmaPolicy::Map);
    let stack = area.alloc(1).expect("it is free");
    let request = DmaRequest::new(stack.bottom(), 64, Direction::ToDevice);
    let transfer = unsafe { door.pass(&request) }.expect("it passes");
    unsafe { transfer.finish() }.expect("its task is alive");
    let before = area.counters().pages_cleared;
    drop(stack);
    drop(area.alloc(2).expect("it is free"));
    assert_eq!(area.counters().pages_cleared, before, "nothing was written");
}

#[test]
fn what_bounced_for_a_stack_that_was_given_back_is_dropped() {
    each_way(DmaPolicy::Bounce, |fake, area, door, next| {
        let stack = stack_of(area, next().expect("it is free").0);
        let bottom = stack.bottom();
        let pass = || unsafe { door.pass(&DmaRequest::new(bottom, 512, Direction::FromDevice)) }.expect("it passes");
        let (first, second, third) = (pass(), pass(), pass());
        die(fake, area, stack);
        // Nobody has it, then somebody else does.
        fake.device_writes(first.segments(), &[0x44; 512]);
        assert_eq!(unsafe { first.finish() }.expect_err("its stack is gone").refusal, Refusal::Gone);
        let (word, zero) = next().expect("it is free: a copy holds no stack");
        assert!(zero, "INV-ZERO");
        fake.device_writes(second.segments(), &[0x55; 512]);
        let error = unsafe { second.finish() }.expect_err("its stack is another's");
        assert_eq!((error.refusal, error.addr, error.bytes), (Refusal::Gone, bottom, 512));
        assert_eq!(error.caller.file(), file!());
        unsafe { third.cancel() };
        assert!(fake.reads_zero(bottom, SIZE), "its next owner reads zero");
        let counters = door.counters();
        assert_eq!((counters.gone, counters.lost, door.pool_usage().in_use), (2, 0, 0));
        drop(stack_of(area, word));
    });
}

#[test]
fn a_transfer_that_is_dropped_keeps_what_it_has_and_is_counted() {
    for (policy, passage) in [(DmaPolicy::Map, Passage::Mapped), (DmaPolicy::Bounce, Passage::Bounced)] {
        let fake = Fake::new(1, 64, 8 * MIB, Flush::Now);
        let (area, platform) = (area_of(&fake, 2), &fake);
        let areas = [&area];
        let door = DmaDoor::new(&platform, &areas);
        opened(&fake, &door, policy);
        let stack = area.alloc(1).expect("it is free");
        let transfer = unsafe { door.pass(&DmaRequest::new(stack.bottom(), 8, Direction::Both)) }.expect("it passes");
        let segments: Vec<_> = transfer.segments().collect();
        assert_eq!(transfer.passage(), passage);
        drop((transfer, stack));
        let plain = unsafe { door.pass(&DmaRequest::new(fake.memory_at(9 * HIGH, PAGE), 8, Direction::Both)) };
        drop(plain.expect("it is no stack's"));
        assert_eq!(door.counters().lost, 1, "what holds nothing is not lost");
        area.drain();
        assert_eq!(
            (area.recount().pinned, door.pool_usage().in_use),
            if passage == Passage::Mapped { (1, 0) } else { (0, 1) }
        );
        // The device that nobody knows of hurts nobody.
        let others = [area.alloc(2).expect("there is another")];
        fake.device_writes(segments.into_iter(), &[0x66; 8]);
        assert!(others.iter().all(|stack| fake.reads_zero(stack.bottom(), SIZE)));
    }
}

#[test]
fn there_are_only_so_many_pins_and_a_stack_that_has_them_all_is_refused() {
    let fake = Fake::new(1, 64, 8 * MIB, Flush::Now);
    let (area, platform) = (area_of(&fake, 1), &fake);
    let areas = [&area];
    let door = DmaDoor::new(&platform, &areas);
    opened(&fake, &door, DmaPolicy::Map);
    let stack = area.alloc(1).expect("it is free");
    let request = DmaRequest::new(stack.bottom(), 8, Direction::FromDevice);
    let pins: Vec<_> = core::iter::from_fn(|| area.pin(stack.id()).ok()).collect();
    for policy in [DmaPolicy::Map, DmaPolicy::Bounce] {
        door.set_policy(policy);
        let error = unsafe { door.pass(&request) }.expect_err("all pins are out");
        assert_eq!((error.refusal, error.stack.owner, door.pool_usage().in_use), (Refusal::TooManyPins, 1, 0));
    }
    drop(pins);
    let transfer = unsafe { door.pass(&request) }.expect("there are pins again");
    unsafe { transfer.cancel() };
}

#[test]
fn a_scatter_list_passes_whole_or_not_at_all() {
    for policy in [DmaPolicy::Map, DmaPolicy::Bounce] {
        let fake = Fake::new(1, 64, 8 * MIB, Flush::Now);
        let (area, platform) = (area_of(&fake, 3), &fake);
        let areas = [&area];
        let door = DmaDoor::new(&platform, &areas);
        opened(&fake, &door, policy);
        let stacks: Vec<_> = (0..3).map(|owner| area.alloc(owner).expect("there are enough")).collect();
        let plain = fake.memory_at(9 * HIGH, 2 * PAGE);
        let good: Vec<_> = stacks.iter().map(|stack| (stack.bottom().wrapping_add(PAGE - 4), 8)).collect();
        let good = [&good[..], &[(plain, 100), (plain.wrapping_add(100), 50)]].concat();
        let requests = |of: &[(vmstack::VirtAddr, usize)]| -> Vec<DmaRequest> {
            of.iter().map(|&(addr, bytes)| DmaRequest::new(addr, bytes, Direction::Both)).collect()
        };
        let pass = |of: &[DmaRequest]| -> Result<TransferList<'_, _, 5>, _> { unsafe { door.pass_list(of) } };
        // Each entry of a list may be the bad one.
        for bad in 0..good.len() {
            let mut list = good.clone();
            list[bad] = (stacks[0].top(), 1);
            let error = pass(&requests(&list)).expect_err("one of them is bad");
            assert_eq!((error.refusal, error.entry, error.addr), (Refusal::Guard, bad, stacks[0].top()));
            assert_eq!(error.caller.file(), file!());
            assert_eq!((door.pool_usage().in_use, door.counters().lost), (0, 0), "nothing is kept");
        }
        let long = pass(&requests(&[&good[..], &good[..1]].concat())).expect_err("it is too long");
        assert_eq!((long.refusal, long.entry), (Refusal::ListFull { most: 5 }, 5));
        assert_eq!(door.counters().refused, good.len() as u64 + 1);
        let list = pass(&requests(&good)).expect("all are good");
        let segments: Vec<_> = list.segments().collect();
        let last = segments.last().expect("there are some");
        assert_eq!((last.start.get(), last.bytes), (9 * HIGH, 150), "merged across entries");
        let sent = good.iter().flat_map(|&(addr, bytes)| read(addr, bytes)).collect::<Vec<_>>();
        assert_eq!((list.transfers().count(), fake.device_reads(list.segments())), (5, sent));
        fake.device_writes(list.segments(), &[0x12; 174]);
        // One of the stacks is given back before the end: all the others end as they should.
        drop(stacks.into_iter().nth(1));
        let ended = unsafe { list.finish() };
        let expected = if policy == DmaPolicy::Map { None } else { Some((0, Refusal::Gone)) };
        assert_eq!(ended.err().map(|error| (error.entry, error.refusal)), expected);
        assert_eq!(read(plain, 150), [0x12; 150]);
        let recount = area.recount();
        assert_eq!((recount.pinned, recount.miscounted, door.pool_usage().in_use), (0, 0, 0), "{recount:?}");
        assert_eq!(door.counters().lost, 0);
    }
}

#[test]
fn a_stack_that_dies_between_the_look_and_the_pin_is_refused_or_held() {
    for policy in [DmaPolicy::Map, DmaPolicy::Bounce] {
        let fake = Fake::new(2, 64, 8 * MIB, Flush::Now);
        let (area, platform) = (area_of(&fake, 1), &fake);
        let areas = [&area];
        let door = DmaDoor::new(&platform, &areas);
        opened(&fake, &door, policy);
        let (over, bottom) = (AtomicBool::new(false), area.alloc(0).expect("it is free").bottom());
        let mut refused = [0_u32; 2];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                become_cpu(1);
                while !over.load(Ordering::Relaxed) {
                    // Its owner finds zeroes, whatever a device did to the last one's.
                    if let Ok(stack) = area.alloc(5) {
                        assert!(fake.reads_zero(stack.bottom(), SIZE), "INV-ZERO");
                    }
                    area.drain();
                }
            });
            become_cpu(0);
            for turn in 0..20_000 {
                let request = DmaRequest::new(bottom.wrapping_add(turn % SIZE), 1, Direction::FromDevice);
                match unsafe { door.pass(&request) } {
                    Ok(transfer) if policy == DmaPolicy::Map => {
                        // It is held: whatever its owner does, these are its frames.
                        assert_eq!(transfer.segments().map(|segment| segment.bytes).sum::<usize>(), 1, "INV-LIVE");
                        fake.device_writes(transfer.segments(), &[0xff]);
                        unsafe { transfer.finish() }.expect("it is held");
                    }
                    Ok(transfer) => unsafe { transfer.cancel() },
                    Err(error) if error.refusal == Refusal::Idle => refused[0] += 1,
                    Err(error) if error.refusal == Refusal::Gone => refused[1] += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        become_cpu(0);
        assert_held_is_right(&area);
        assert_eq!((area.recount().pinned, door.pool_usage().in_use, door.counters().lost), (0, 0, 0));
        assert_eq!(door.counters().refused, u64::from(refused[0] + refused[1]));
        assert!(matches!(door.locate(bottom, 1), Located::Idle(_)));
    }
}

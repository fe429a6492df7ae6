//! What passes the door to devices, how, and what is refused.

#![expect(clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]

mod fake;

use fake::{Area, Fake, FakeOf, Flush, SIZE, Stack, area_of, read};
use vmstack::{
    BounceRegion, Direction, DmaDoor, DmaError, DmaPolicy, DmaRequest, ExternalStack, Located, Passage, PhysAddr,
    PoolError, Refusal, Segment, StackArea, StackKind, Transfer, VirtAddr,
};

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;
/// Where the memory beside the areas is.
const HIGH: u64 = 1 << 32;
const POOL: u64 = 2 << 32;
const POLICIES: [DmaPolicy; 3] = [DmaPolicy::Refuse, DmaPolicy::Bounce, DmaPolicy::Map];

type Door<'a, 'f> = DmaDoor<'a, &'f Fake>;

fn fake() -> Fake {
    Fake::new(1, 96, 8 * MIB, Flush::Now)
}

/// Runs `test` with an area of eight stacks, a door that knows it, and a stack of task 7.
fn with_door(policy: DmaPolicy, test: impl FnOnce(&Fake, &Area<'_>, &Door<'_, '_>, Stack<'_>)) {
    let fake = fake();
    let (area, platform) = (area_of(&fake, 8), &fake);
    let areas = [&area];
    let door = DmaDoor::new(&platform, &areas);
    door.set_policy(policy);
    unsafe { door.fill_pool(&fake.region(POOL, MIB)) }.expect("the region is good");
    door.look();
    let stack = area.alloc(7).expect("there are enough");
    test(&fake, &area, &door, stack);
}

fn pass<'a, 'f>(door: &'a Door<'_, 'f>, request: &DmaRequest) -> Result<Transfer<'a, &'f Fake>, DmaError> {
    unsafe { door.pass(request) }
}

fn refusal(door: &Door<'_, '_>, addr: VirtAddr, bytes: usize) -> Refusal {
    refusal_of(door, &DmaRequest::new(addr, bytes, Direction::Both))
}

fn refusal_of(door: &Door<'_, '_>, request: &DmaRequest) -> Refusal {
    let (before, usage) = (door.counters().refused, door.pool_usage());
    let refusal = pass(door, request).expect_err("it is refused").refusal;
    assert_eq!(door.counters().refused, before + 1, "it is counted");
    assert_eq!(door.pool_usage(), usage, "nothing is kept");
    refusal
}

/// Stacks that pins hold, when all tasks are gone.
fn held(area: &Area<'_>) -> usize {
    let recount = area.recount();
    assert_eq!((recount.live, recount.miscounted), (0, 0), "INV-COUNT: {recount:?}");
    recount.pinned
}

/// Writes what the CPU would, and counts.
fn fill(fake: &Fake, addr: VirtAddr, bytes: usize) -> Vec<u8> {
    (0..bytes).for_each(|i| fake.write(addr.wrapping_add(i), (i % 251) as u8));
    read(addr, bytes)
}

#[test]
fn no_bytes_and_a_range_that_leaves_the_address_space_never_pass() {
    for policy in POLICIES {
        with_door(policy, |fake, _, door, stack| {
            let plain = fake.memory_at(HIGH, PAGE);
            for addr in [plain, stack.bottom(), VirtAddr::new(0), VirtAddr::new(usize::MAX)] {
                assert_eq!(refusal(door, addr, 0), Refusal::Empty, "{addr}");
            }
            for (addr, bytes) in [(plain, usize::MAX), (stack.bottom(), usize::MAX), (VirtAddr::new(usize::MAX), 2)] {
                assert_eq!(refusal(door, addr, bytes), Refusal::Wraps, "{addr} {bytes:#x}");
            }
        });
    }
}

#[test]
fn what_is_not_wholly_in_one_stack_never_passes() {
    for policy in POLICIES {
        with_door(policy, |_, area, door, stack| {
            let (bottom, top) = (stack.bottom(), stack.top());
            assert_eq!(refusal(door, bottom.wrapping_sub(1), 2), Refusal::AcrossBottom { below: 1 });
            assert_eq!(refusal(door, bottom.wrapping_sub(9), SIZE + 10), Refusal::AcrossBottom { below: 9 });
            assert_eq!(refusal(door, top.wrapping_sub(1), 2), Refusal::AcrossTop { above: 1 });
            assert_eq!(refusal(door, bottom, SIZE + 100), Refusal::AcrossTop { above: 100 });
            assert_eq!(refusal(door, bottom.wrapping_sub(1), 1), Refusal::Guard);
            assert_eq!(refusal(door, top, 1), Refusal::Guard);
            let range = area.geometry().expect("it is ready").whole_range();
            assert_eq!(refusal(door, range.start(), 1), Refusal::Records);
            assert_eq!(refusal(door, range.start().wrapping_sub(8), 16), Refusal::Records);
            assert_eq!(refusal(door, range.end().wrapping_sub(1), 1), Refusal::Guard, "the one behind the last stack");
            assert_eq!(refusal(door, range.end().wrapping_sub(1), 100), Refusal::Guard);
            // From outside of the area into its first stack, and over all of them.
            let below = bottom.distance(range.start()) + 8;
            let from_outside = refusal(door, range.start().wrapping_sub(8), below + 1);
            assert_eq!(from_outside, Refusal::AcrossBottom { below });
            let all = refusal(door, range.start().wrapping_sub(8), range.bytes() + 16);
            assert_eq!(all, Refusal::AcrossBottom { below });
        });
    }
}

#[test]
fn a_stack_that_is_nobodys_never_passes() {
    for policy in POLICIES {
        with_door(policy, |fake, area, door, stack| {
            let never_used = stack.bottom().wrapping_add(3 * area.geometry().expect("it is ready").stride());
            assert_eq!(refusal(door, never_used, 8), Refusal::Idle);
            let bottom = stack.bottom();
            stack.hand_over(&vmstack::Platform::enter(&fake));
            assert_eq!(refusal(door, bottom, 8), Refusal::Idle, "its task is dead");
            area.reap();
            assert_eq!(refusal(door, bottom, 8), Refusal::Idle, "it is in a cache");
            area.drain();
            assert_eq!(refusal(door, bottom, 8), Refusal::Idle, "its frames are gone");
        });
    }
}

#[test]
fn a_refusal_names_the_caller_the_bytes_the_stack_and_its_owner() {
    with_door(DmaPolicy::Refuse, |_, _, door, stack| {
        let addr = stack.bottom().wrapping_add(100);
        let line = line!() + 1;
        let error = pass_here(door, &DmaRequest::new(addr, 28, Direction::ToDevice));
        assert_eq!((error.refusal, error.addr, error.bytes, error.entry), (Refusal::Stack, addr, 28, 0));
        assert_eq!((error.caller.file(), error.caller.line()), (file!(), line));
        assert_eq!((error.stack.bottom, error.stack.owner, error.offset), (stack.bottom(), 7, 100));
        let text = error.to_string();
        for part in [&addr.to_string(), "28 bytes", file!(), "100 bytes above its bottom", "owner 0x7", "TASK stack"] {
            assert!(text.contains(part), "{part} in: {text}");
        }
        let bottom = stack.bottom();
        drop(stack);
        let gone = pass_here(door, &DmaRequest::new(bottom, 1, Direction::ToDevice)).to_string();
        assert!(!gone.contains("owner"), "its last owner has nothing to do with it: {gone}");
    });
}

/// Names its caller, as a driver does that asks for somebody else.
#[track_caller]
fn pass_here(door: &Door<'_, '_>, request: &DmaRequest) -> DmaError {
    unsafe { door.pass(request) }.expect_err("it is refused")
}

#[test]
fn memory_that_is_no_stacks_passes_where_it_is_whatever_the_policy() {
    for policy in POLICIES {
        with_door(policy, |fake, _, door, _stack| {
            // Two pages side by side, then one that is not, then one before it.
            let (direct, paged) =
                (fake.memory_at(HIGH, 2 * PAGE), fake.pages_at(3 * HIGH, &[Some(4), Some(5), Some(2), Some(1)]));
            let at = |page: u64, offset: u64| PhysAddr::new(3 * HIGH + page * PAGE as u64 + offset);
            let segments = |addr, bytes| {
                let request = DmaRequest::new(addr, bytes, Direction::Both);
                let transfer = pass(door, &request).expect("it is no stack's");
                assert_eq!(transfer.passage(), Passage::Plain);
                let segments: Vec<_> = transfer.segments().map(|segment| (segment.start, segment.bytes)).collect();
                unsafe { transfer.finish() }.expect("nothing can go wrong");
                segments
            };
            assert_eq!(segments(direct.wrapping_add(5), PAGE), [(PhysAddr::new(HIGH + 5), PAGE)]);
            let rest = PAGE - 100;
            let expected = [(at(4, 100), rest + PAGE), (at(2, 0), PAGE), (at(1, 0), 7)];
            assert_eq!(segments(paged.wrapping_add(100), rest + 2 * PAGE + 7), expected);
            assert_eq!(segments(paged.wrapping_add(PAGE - 1), 1), [(at(4, PAGE as u64 - 1), 1)]);
            let counters = door.counters();
            assert_eq!((counters.refused, counters.bounced, counters.mapped, counters.lost), (0, 0, 0, 0));
        });
    }
}

#[test]
fn a_stack_passes_as_the_policy_says_and_the_device_sees_its_bytes() {
    for (policy, passage) in [(DmaPolicy::Bounce, Passage::Bounced), (DmaPolicy::Map, Passage::Mapped)] {
        for (offset, bytes) in [(0, 1), (1, 511), (PAGE - 3, 7), (5, 3 * PAGE), (0, SIZE), (SIZE - 1, 1)] {
            with_door(policy, |fake, _, door, stack| {
                let addr = stack.bottom().wrapping_add(offset);
                let sent = fill(fake, addr, bytes);
                let transfer = pass(door, &DmaRequest::new(addr, bytes, Direction::Both)).expect("it passes");
                assert_eq!((transfer.passage(), transfer.bytes()), (passage, bytes));
                assert_eq!(fake.device_reads(transfer.segments()), sent);
                let answer: Vec<u8> = sent.iter().map(|byte| !byte).collect();
                fake.device_writes(transfer.segments(), &answer);
                unsafe { transfer.finish() }.expect("its task is alive");
                assert_eq!(read(addr, bytes), answer, "{policy:?} {offset} {bytes}");
                assert_eq!(door.pool_usage().in_use, 0);
            });
        }
    }
}

#[test]
fn bytes_that_a_device_does_not_write_stay_what_they_were() {
    for policy in [DmaPolicy::Bounce, DmaPolicy::Map] {
        with_door(policy, |fake, _, door, stack| {
            let addr = stack.bottom().wrapping_add(PAGE - 100);
            let before = fill(fake, addr, 512);
            let transfer = pass(door, &DmaRequest::new(addr, 512, Direction::FromDevice)).expect("it passes");
            fake.device_writes(transfer.segments(), &[0xff; 200]);
            unsafe { transfer.finish() }.expect("its task is alive");
            assert_eq!(read(addr, 200), [0xff; 200]);
            assert_eq!(read(addr.wrapping_add(200), 312), before[200..], "{policy:?}: the device was short");
        });
    }
}

#[test]
fn what_will_be_overwritten_is_not_copied_first_and_arrives_whole() {
    with_door(DmaPolicy::Bounce, |fake, _, door, stack| {
        let addr = stack.bottom().wrapping_add(3);
        for (direction, copied) in [(Direction::FromDevice, false), (Direction::Both, true)] {
            let before = fill(fake, addr, 300);
            let transfer = pass(door, &DmaRequest::new(addr, 300, direction).overwritten()).expect("it passes");
            let seen = fake.device_reads(transfer.segments());
            assert_eq!(seen == before, copied, "{direction:?}: what a device reads is there");
            fake.device_writes(transfer.segments(), &[0x2f; 300]);
            unsafe { transfer.finish() }.expect("its task is alive");
            assert_eq!(read(addr, 300), [0x2f; 300]);
            let before = fill(fake, addr, 300);
            let transfer = pass(door, &DmaRequest::new(addr, 300, direction).overwritten()).expect("it passes");
            unsafe { transfer.cancel() };
            assert_eq!(read(addr, 300), before, "{direction:?}: the device was never told");
        }
    });
}

#[test]
fn the_area_is_what_a_stack_belongs_to_whichever_it_is_at_the_door() {
    let fakes = [fake(), fake(), fake()];
    let areas = fakes.each_ref().map(|fake| area_of(fake, 3));
    let (all, platform) = (areas.each_ref(), &fakes[1]);
    let door = DmaDoor::new(&platform, &all);
    door.set_policy(DmaPolicy::Bounce);
    unsafe { door.fill_pool(&fakes[1].region(POOL, MIB)) }.expect("the region is good");
    door.look();
    let stacks: Vec<_> = all.iter().map(|area| area.alloc(1).expect("there are enough")).collect();
    let pass = |stack: &Stack<'_>| {
        let bus = unsafe { door.share(&DmaRequest::new(stack.bottom(), 8, Direction::FromDevice)) };
        (bus.expect("it bounces"), stack.bottom())
    };
    let shared: Vec<_> = stacks.iter().map(pass).collect();
    // The stacks of the second area are given back: its transfers are over, and no other's.
    let mut stacks = stacks;
    drop(stacks.remove(1));
    let ended: Vec<_> = shared.iter().map(|&(bus, addr)| unsafe { door.unshare(bus, addr, 8) }).collect();
    assert_eq!(ended.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(ended[1].expect_err("its stack is gone").refusal, Refusal::Gone);
}

#[test]
fn what_the_device_only_reads_is_not_written_back() {
    with_door(DmaPolicy::Bounce, |fake, _, door, stack| {
        let addr = stack.bottom();
        fill(fake, addr, 64);
        let transfer = pass(door, &DmaRequest::new(addr, 64, Direction::ToDevice)).expect("it passes");
        // A device that writes all the same reaches a copy.
        fake.device_writes(transfer.segments(), &[0; 64]);
        fake.write(addr, 0x99);
        unsafe { transfer.finish() }.expect("its task is alive");
        assert_eq!(read(addr, 2), [0x99, 1]);
    });
}

#[test]
fn a_cancelled_transfer_writes_nothing_back_and_keeps_nothing() {
    for policy in [DmaPolicy::Bounce, DmaPolicy::Map] {
        with_door(policy, |fake, area, door, stack| {
            let addr = stack.bottom();
            let before = fill(fake, addr, 64);
            let transfer = pass(door, &DmaRequest::new(addr, 64, Direction::Both)).expect("it passes");
            if transfer.passage() == Passage::Bounced {
                fake.device_writes(transfer.segments(), &[0; 64]);
            }
            unsafe { transfer.cancel() };
            assert_eq!(read(addr, 64), before);
            drop(stack);
            assert_eq!((door.pool_usage().in_use, held(area), door.counters().lost), (0, 0, 0));
        });
    }
}

/// What a device cannot do.
type Limit = fn(DmaRequest) -> DmaRequest;

#[test]
fn what_the_device_cannot_have_is_refused_or_bounced_by_policy() {
    let page = PAGE as u64;
    // A request for two pages of scattered memory, and why it cannot have it.
    let cases: [(Limit, Refusal); 3] = [
        (
            |request| request.reaching(HIGH),
            Refusal::OutOfReach { last: PhysAddr::new(3 * HIGH + 5 * page - 1), reach: HIGH },
        ),
        (
            |request| request.aligned(64),
            Refusal::Misaligned { start: PhysAddr::new(3 * HIGH + 4 * page + 8), align: 64 },
        ),
        (|request| request.in_segments(1), Refusal::TooManySegments { most: 1 }),
    ];
    for (limit, refused) in cases {
        for policy in POLICIES {
            with_door(policy, |fake, _, door, _stack| {
                let paged = fake.pages_at(3 * HIGH, &[Some(4), Some(1)]).wrapping_add(8);
                let request = limit(DmaRequest::new(paged, PAGE, Direction::Both));
                let expected = match policy {
                    DmaPolicy::Refuse => Some(refused),
                    _ if matches!(refused, Refusal::OutOfReach { .. }) => {
                        Some(Refusal::PoolOutOfReach { last: PhysAddr::new(POOL + MIB as u64 - 1), reach: HIGH })
                    }
                    _ => None,
                };
                if let Some(expected) = expected {
                    return assert_eq!(refusal_of(door, &request), expected, "{policy:?}");
                }
                let transfer = pass(door, &request).expect("it bounces");
                assert_eq!(transfer.passage(), Passage::Bounced);
                let segments: Vec<Segment> = transfer.segments().collect();
                assert!(segments.len() == 1 && segments[0].start.get().is_multiple_of(64), "{segments:?}");
                fake.device_writes(transfer.segments(), &[0x77; PAGE]);
                unsafe { transfer.finish() }.expect("there is nothing in the way");
                assert_eq!(read(paged, PAGE), [0x77; PAGE]);
            });
        }
    }
}

#[test]
fn a_stack_that_is_mapped_bounces_where_the_device_cannot_have_it() {
    with_door(DmaPolicy::Map, |fake, area, door, stack| {
        let addr = stack.bottom().wrapping_add(PAGE - 8);
        fill(fake, addr, 16);
        let request = DmaRequest::new(addr, 16, Direction::Both).aligned(512);
        let transfer = pass(door, &request).expect("it bounces");
        assert_eq!(transfer.passage(), Passage::Bounced);
        assert!(transfer.segments().all(|segment| segment.start.get().is_multiple_of(512)));
        unsafe { transfer.finish() }.expect("its task is alive");
        drop(stack);
        assert_eq!(held(area), 0, "the pin of the first attempt is gone");
    });
}

#[test]
fn memory_that_is_not_mapped_never_passes_and_is_never_read() {
    for policy in POLICIES {
        with_door(policy, |fake, _, door, _stack| {
            let paged = fake.pages_at(3 * HIGH, &[Some(4), Some(1), None, Some(6)]);
            let hole = Refusal::NotMapped { page: paged.wrapping_add(2 * PAGE) };
            assert_eq!(refusal(door, paged.wrapping_add(2 * PAGE + 5), 1), hole);
            assert_eq!(refusal(door, paged.wrapping_add(PAGE), PAGE + 1), hole);
            // The device could not have what comes before the hole either: that is no reason to copy it.
            let request = DmaRequest::new(paged.wrapping_add(8), 3 * PAGE, Direction::Both);
            for request in [request.aligned(64), request.reaching(HIGH), request.in_segments(1)] {
                assert_eq!(refusal_of(door, &request), hole, "{policy:?}");
            }
        });
    }
}

#[test]
fn there_may_be_no_pool_or_none_that_is_large_enough_or_aligned_enough_or_left() {
    let fake = fake();
    let (area, platform) = (area_of(&fake, 8), &fake);
    let areas = [&area];
    let door = DmaDoor::new(&platform, &areas);
    door.set_policy(DmaPolicy::Bounce);
    door.look();
    let stack = area.alloc(7).expect("there are enough");
    let request = |bytes| DmaRequest::new(stack.bottom(), bytes, Direction::Both);
    assert_eq!(refusal_of(&door, &request(1)), Refusal::NoPool);
    // Four buffers of 512 bytes and sixteen of 64.
    unsafe { door.fill_pool(&fake.region(POOL, 8 << 10)) }.expect("the region is good");
    let usage = door.pool_usage();
    assert_eq!((usage.buffers, usage.in_use, usage.largest), (20, 0, 512));
    assert_eq!(refusal_of(&door, &request(513)), Refusal::TooLarge { most: 512 });
    assert_eq!(refusal_of(&door, &request(1).aligned(1024)), Refusal::TooLarge { most: 512 });
    assert_eq!(refusal_of(&door, &request(1).aligned(usize::MAX)), Refusal::TooLarge { most: 512 });
    // Small ones take large buffers when theirs are out, and large ones do not take small buffers.
    let small: Vec<_> = (0..17).map(|_| pass(&door, &request(64)).expect("there are enough")).collect();
    let large: Vec<_> = (0..3).map(|_| pass(&door, &request(65)).expect("there are enough")).collect();
    assert_eq!(refusal_of(&door, &request(65)), Refusal::PoolExhausted { buffers: 4 });
    assert_eq!(refusal_of(&door, &request(1)), Refusal::PoolExhausted { buffers: 20 });
    assert_eq!(door.pool_usage().in_use, 20);
    small.into_iter().chain(large).for_each(|transfer| unsafe { transfer.cancel() });
    assert_eq!(door.pool_usage().in_use, 0);
    let again = pass(&door, &request(1)).expect("there are some again");
    unsafe { again.cancel() };
}

#[test]
fn buffers_are_aligned_as_was_asked_and_have_no_line_in_common() {
    with_door(DmaPolicy::Bounce, |_, _, door, stack| {
        let mut starts = Vec::new();
        for align in [1, 2, 64, 100, 512, 4096] {
            for bytes in [1, 63, 64, 65, 4096, 4097, 16 << 10] {
                let request = DmaRequest::new(stack.bottom(), bytes, Direction::ToDevice).aligned(align);
                let transfer = pass(door, &request).expect("there are enough");
                let segment = transfer.segments().next().expect("it has one");
                assert!(segment.start.get().is_multiple_of(align.next_power_of_two() as u64), "{align} {bytes}");
                assert!(segment.start.get().is_multiple_of(64) && segment.bytes == bytes);
                starts.push((segment.start.get(), bytes as u64));
                // Kept: all of them are in use at once.
                drop(transfer);
            }
        }
        starts.sort_unstable();
        assert!(starts.windows(2).all(|two| two[0].0 + two[0].1.next_multiple_of(64) <= two[1].0), "{starts:x?}");
        let request = DmaRequest::new(stack.bottom(), 1, Direction::ToDevice).aligned(8192);
        assert_eq!(refusal_of(door, &request), Refusal::TooLarge { most: 64 << 10 }, "none begins like that");
    });
}

#[test]
fn a_region_is_good_or_said_to_be_bad_and_is_given_once() {
    let fake = fake();
    let platform = &fake;
    let door: Door<'_, '_> = DmaDoor::new(&platform, &[]);
    let good = fake.region(POOL, 64 << 10);
    let fill = |region: &BounceRegion| unsafe { door.fill_pool(region) };
    for (virt, phys) in [(8, 0), (0, 8), (2048, 2048)] {
        let (virt, phys) = (good.virt.wrapping_add(virt), PhysAddr::new(good.phys.get() + phys));
        assert_eq!(fill(&BounceRegion { virt, phys, ..good }), Err(PoolError::Misaligned));
    }
    for bytes in [0, 100, 4096, usize::MAX - 4096] {
        assert_eq!(fill(&BounceRegion { bytes, ..good }), Err(PoolError::BadSize { bytes }));
    }
    let phys = PhysAddr::new(!4095);
    assert_eq!(fill(&BounceRegion { phys, ..good }), Err(PoolError::BadSize { bytes: 64 << 10 }));
    assert_eq!((door.pool_usage().buffers, fill(&good)), (0, Ok(())));
    assert_eq!(fill(&good), Err(PoolError::Filled));
}

#[test]
fn any_stack_of_any_area_is_known_and_so_is_one_that_was_there_before() {
    let fake = fake();
    let others = Fake::new(1, 64, 4 * MIB, Flush::Now);
    let platform = &fake;
    let (area, unready) = (area_of(&fake, 4), StackArea::new(&fake));
    let external = fake.pages_at(3 * HIGH, &[None, Some(5), Some(2), None]);
    let (bottom, top) = (external.wrapping_add(PAGE), external.wrapping_add(3 * PAGE));
    let boot = ExternalStack { bottom, top, guard_bytes: PAGE, kind: StackKind::Boot, owner: 3 };
    unready.register(&boot).expect("there is room");
    let areas = [&unready, &area];
    let door = DmaDoor::new(&platform, &areas);
    unsafe { door.fill_pool(&fake.region(POOL, MIB)) }.expect("the region is good");
    door.look();
    // Nobody's but the host's.
    let foreign = area_of(&others, 2);
    assert_eq!(door.locate(foreign.alloc(1).expect("there are enough").bottom(), 1), Located::Outside);
    let stacks: Vec<_> = (0..4).map(|owner| area.alloc(owner).expect("there are enough")).collect();
    for (owner, stack) in stacks.iter().enumerate() {
        match door.locate(stack.bottom().wrapping_add(8), 16) {
            Located::Stack(span) => assert_eq!((span.stack.owner, span.offset, span.bytes), (owner, 8, 16)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refusal(&door, bottom, 1), Refusal::Stack);
    assert_eq!(refusal(&door, bottom.wrapping_sub(1), 1), Refusal::Guard);
    assert_eq!(refusal(&door, bottom.wrapping_sub(1), 2), Refusal::AcrossBottom { below: 1 });
    assert_eq!(refusal(&door, top.wrapping_sub(1), 2), Refusal::AcrossTop { above: 1 });
    for policy in [DmaPolicy::Bounce, DmaPolicy::Map] {
        door.set_policy(policy);
        unsafe { top.wrapping_sub(9).as_mut_ptr::<u8>().write_bytes(0x5e, 9) };
        let transfer = pass(&door, &DmaRequest::new(top.wrapping_sub(9), 9, Direction::Both)).expect("it is a stack");
        assert_eq!(fake.device_reads(transfer.segments()), [0x5e; 9]);
        fake.device_writes(transfer.segments(), &[1; 9]);
        unsafe { transfer.finish() }.expect("it stays");
        assert_eq!(read(top.wrapping_sub(9), 9), [1; 9], "{policy:?}");
    }
}

#[test]
fn of_several_registered_stacks_the_lowest_is_named() {
    let fake = fake();
    let area = area_of(&fake, 1);
    let at = fake.pages_at(3 * HIGH, &[Some(0), Some(1), Some(2), Some(3)]);
    for page in [2, 0] {
        let (bottom, top) = (at.wrapping_add(page * PAGE), at.wrapping_add((page + 1) * PAGE));
        let stack = ExternalStack { bottom, top, guard_bytes: 0, kind: StackKind::Boot, owner: page };
        area.register(&stack).expect("there is room");
    }
    match area.locate(at, 4 * PAGE) {
        Located::Across { span, below: 0, above } => assert_eq!((span.stack.owner, above), (0, 3 * PAGE)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_door_that_nobody_had_look_lets_no_stack_pass_unseen() {
    let fake = fake();
    let (area, platform) = (area_of(&fake, 2), &fake);
    let areas = [&area];
    let door = DmaDoor::new(&platform, &areas);
    let stack = area.alloc(1).expect("there are enough");
    assert_eq!(refusal(&door, stack.bottom(), 1), Refusal::Stack);
    let plain = fake.memory_at(HIGH, PAGE);
    assert!(pass(&door, &DmaRequest::new(plain, 1, Direction::Both)).is_ok(), "it takes longer, and passes");
    assert!(door.suspects(plain, 1));
    door.look();
    assert!(!door.suspects(plain, 1) && door.suspects(stack.bottom(), 1));
}

/// A stack, mapped for a device, with pages of other sizes.
fn segments_with<const SOME_PAGE: usize>() {
    let fake: FakeOf<SOME_PAGE> = FakeOf::new(1, 64, 16 * MIB, Flush::Now);
    let area = StackArea::new(&fake);
    unsafe { area.init(&fake.config(4, 4 * SOME_PAGE)) }.expect("the area is initialised");
    let (platform, areas) = (&fake, [&area]);
    let door = DmaDoor::new(&platform, &areas);
    door.set_policy(DmaPolicy::Map);
    door.look();
    // Leaves every other frame free, so that the second stack has no two side by side.
    let (first, second) = (area.alloc(1).expect("there are enough"), area.alloc(2).expect("there are enough"));
    for stack in [&first, &second] {
        let addr = stack.bottom().wrapping_add(SOME_PAGE - 10);
        (0..SOME_PAGE + 20).for_each(|i| fake.write(addr.wrapping_add(i), i as u8));
        let request = DmaRequest::new(addr, SOME_PAGE + 20, Direction::ToDevice);
        let transfer = unsafe { door.pass(&request) }.expect("it passes");
        let segments: Vec<Segment> = transfer.segments().collect();
        assert_eq!(segments.iter().map(|segment| segment.bytes).sum::<usize>(), SOME_PAGE + 20);
        let apart = segments.windows(2).all(|two| two[0].start.get() + two[0].bytes as u64 != two[1].start.get());
        assert!(apart, "what lies side by side is one: {segments:?}");
        assert_eq!(fake.device_reads(transfer.segments()), read(addr, SOME_PAGE + 20));
        unsafe { transfer.finish() }.expect("its task is alive");
    }
}

#[test]
fn segments_are_right_with_pages_of_any_size() {
    segments_with::<4096>();
    segments_with::<{ 16 << 10 }>();
    segments_with::<{ 64 << 10 }>();
}

#[test]
fn drivers_that_keep_no_transfers_find_them_again_by_the_bus_address() {
    for policy in [DmaPolicy::Bounce, DmaPolicy::Map] {
        with_door(policy, |fake, area, door, stack| {
            let plain = fake.memory_at(HIGH, PAGE);
            for addr in [stack.bottom().wrapping_add(40), plain.wrapping_add(40)] {
                let sent = fill_any(addr, 100);
                let request = DmaRequest::new(addr, 100, Direction::Both);
                let bus = unsafe { door.share(&request) }.expect("it passes, in one segment");
                assert_eq!(fake.device_reads_at(bus, 100), sent);
                fake.device_writes_at(bus, &[0xee; 50]);
                for (bus, addr, bytes) in [
                    (bus.wrapping_add(1), addr, 100),
                    (PhysAddr::new(9 * HIGH), addr, 100),
                    (bus, addr.wrapping_add(1), 100),
                ] {
                    let error = unsafe { door.unshare(bus, addr, bytes) }.expect_err("it is another");
                    assert_eq!(error.refusal, Refusal::NotShared { bus });
                }
                unsafe { door.unshare(bus, addr, 100) }.expect("its task is alive");
                assert_eq!((read(addr, 50), read(addr.wrapping_add(50), 50)), (vec![0xee; 50], sent[50..].to_vec()));
                let bus = unsafe { door.share(&request) }.expect("again");
                unsafe { door.unshare_cancelled(bus, addr, 100) }.expect("it was shared");
            }
            drop(stack);
            let counters = door.counters();
            assert_eq!((held(area), door.pool_usage().in_use, counters.lost), (0, 0, 0), "{policy:?}");
        });
    }
}

fn fill_any(addr: VirtAddr, bytes: usize) -> Vec<u8> {
    (0..bytes).for_each(|i| unsafe { addr.wrapping_add(i).as_mut_ptr::<u8>().write(i as u8) });
    read(addr, bytes)
}

#[test]
fn what_has_more_than_one_segment_is_shared_by_a_copy_or_not() {
    with_door(DmaPolicy::Map, |fake, _, door, _stack| {
        let paged = fake.pages_at(3 * HIGH, &[Some(4), Some(1)]);
        let request = DmaRequest::new(paged.wrapping_add(8), PAGE, Direction::Both).in_segments(9);
        let bus = unsafe { door.share(&request) }.expect("it bounces");
        assert!(bus.get() >= POOL, "{bus:?}");
        unsafe { door.unshare(bus, request.addr(), PAGE) }.expect("nothing is in the way");
        door.set_policy(DmaPolicy::Refuse);
        let refused = unsafe { door.share(&request) }.expect_err("it has two").refusal;
        assert_eq!(refused, Refusal::TooManySegments { most: 1 });
    });
}

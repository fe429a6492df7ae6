//! Whatever is asked for that cannot be: each its own error, and nothing has changed.

#![allow(clippy::unwrap_used, clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]
#![allow(clippy::allow_attributes, reason = "as in the fake")]

mod fake;

use fake::{CHUNK, DATA, Fake, FakeError, PAGE, Supply, assert_nothing_left, give_everything_back, vmalloc_of};
use vmstack::{Cpu, VirtAddr, VirtRange};
use vmstack_vmalloc::{AreaError, Found, FreeError, InitError, Request, Tag, Vmalloc};

fn fake() -> Fake {
    Fake::new(Supply::plenty())
}

fn init(fake: &Fake, start: VirtAddr, bytes: usize, cpus: usize) -> Result<(), InitError<FakeError>> {
    let vmalloc = Vmalloc::new(fake);
    unsafe { vmalloc.init(VirtRange::new(start, bytes).unwrap(), cpus) }
}

#[test]
fn a_vmalloc_is_initialised_once() {
    let fake = &fake();
    let vmalloc = vmalloc_of(fake);
    assert_eq!(unsafe { vmalloc.init(fake.range(), 1) }, Err(InitError::AlreadyInitialised));
    drop(vmalloc.vmalloc(1).expect("and works as before"));
}

#[test]
fn cpus_must_be_some_and_not_too_many() {
    let fake = &fake();
    let range = fake.range();
    for cpus in [0, usize::MAX] {
        let refused = init(fake, range.start(), range.bytes(), cpus);
        assert!(
            matches!(refused, Err(InitError::BadCpus { cpus: said, most }) if said == cpus && most > 0),
            "{refused:?}"
        );
    }
}

#[test]
fn a_range_begins_and_ends_where_a_chunk_does() {
    let fake = &fake();
    let (start, bytes) = (fake.range().start(), fake.range().bytes());
    let refused = Err(InitError::Misaligned { chunk: CHUNK });
    assert_eq!(init(fake, start.wrapping_add(PAGE), bytes - CHUNK, 3), refused);
    assert_eq!(init(fake, start, bytes - PAGE, 3), refused);
    assert_eq!(init(fake, start, bytes - 1, 3), refused);
}

#[test]
fn a_range_has_room_and_can_be_counted() {
    let fake = &fake();
    let start = fake.range().start();
    for bytes in [0, CHUNK, 1 << 62] {
        let Err(InitError::BadRange { bytes: said, least, most }) = init(fake, start, bytes, 3) else {
            panic!("a range of {bytes} bytes was taken");
        };
        assert_eq!(said, bytes);
        assert!(bytes < least || bytes > most, "{bytes} is none of {least} to {most}");
    }
}

#[test]
fn the_least_range_will_do() {
    let fake = &fake();
    let start = fake.range().start();
    let Err(InitError::BadRange { least, .. }) = init(fake, start, 0, 3) else {
        panic!("a range of nothing was taken")
    };
    let fake = &Fake::new(Supply { chunks: least.div_ceil(CHUNK), ..Supply::plenty() });
    let vmalloc = vmalloc_of(fake);
    drop(vmalloc.vmalloc(1).expect("there is room for one"));
}

#[test]
fn nothing_is_had_of_a_vmalloc_that_was_not_initialised() {
    let fake = &fake();
    let vmalloc = Vmalloc::new(fake);
    let request = Request::new(PAGE);
    assert_eq!(vmalloc.alloc(&request).map(drop), Err(AreaError::NotInitialised));
    assert_eq!(vmalloc.alloc_waiting(&request).map(drop), Err(AreaError::NotInitialised));
    assert_eq!(vmalloc.reserve(&request).map(drop), Err(AreaError::NotInitialised));
    let frames = [fake.lent_frame(0)];
    assert_eq!(unsafe { vmalloc.map_ram(&frames, DATA) }.map(drop), Err(AreaError::NotInitialised));
    let lent = unsafe { vmalloc.vmap(frames.into_iter(), DATA, Tag::caller()) };
    assert_eq!(lent.map(drop), Err(AreaError::NotInitialised));
    let addr = fake.range().start();
    assert_eq!(vmalloc.free(addr), Err(FreeError::NotOurs { addr }));
    assert_eq!(vmalloc.find(addr), Found::NotOurs);
    vmalloc.for_each(|info| panic!("{info} is listed"));
    vmalloc.drain();
    vmalloc.trim();
    vmalloc.pressure();
    vmalloc.answer_pressure();
    vmalloc.leave_cpu();
    assert_eq!(fake.lent(), (0, 0));
}

#[test]
fn a_request_must_make_sense() {
    let fake = &fake();
    let vmalloc = &vmalloc_of(fake);
    type Way = fn(&Vmalloc<&Fake>, &Request) -> Result<(), AreaError<FakeError>>;
    let ways: [Way; 3] = [
        |vmalloc, request| vmalloc.alloc(request).map(drop),
        |vmalloc, request| vmalloc.alloc_waiting(request).map(drop),
        |vmalloc, request| vmalloc.reserve(request).map(drop),
    ];
    for way in ways {
        assert_eq!(way(vmalloc, &Request::new(0)), Err(AreaError::ZeroSize));
        for align in [0, 3, PAGE + 1, usize::MAX] {
            assert_eq!(way(vmalloc, &Request::new(PAGE).align(align)), Err(AreaError::BadAlignment { align }));
        }
        let align = 1 << 63;
        let refused = way(vmalloc, &Request::new(PAGE).align(align));
        assert!(
            matches!(refused, Err(AreaError::AlignmentTooLarge { align: said, most }) if said == align && most >= CHUNK),
            "{refused:?}"
        );
        for bytes in [usize::MAX, usize::MAX - PAGE, fake.range().bytes()] {
            let refused = way(vmalloc, &Request::new(bytes));
            let Err(AreaError::TooLarge { bytes: said, most }) = refused else { panic!("{refused:?}") };
            assert!(said == bytes && most < bytes);
            assert_eq!(way(vmalloc, &Request::new(most + 1)), Err(AreaError::TooLarge { bytes: most + 1, most }));
        }
    }
    let nothing = unsafe { vmalloc.map_ram(&[], DATA) };
    assert_eq!(nothing.map(drop), Err(AreaError::ZeroSize));
    give_everything_back(fake, vmalloc);
    assert_nothing_left(fake, vmalloc);
}

#[test]
fn the_largest_alignment_can_be_had() {
    let fake = &fake();
    let vmalloc = &vmalloc_of(fake);
    let Err(AreaError::AlignmentTooLarge { most, .. }) = vmalloc.reserve(&Request::new(1).align(1 << 63)).map(drop)
    else {
        panic!("nothing can be so aligned");
    };
    let area = vmalloc.reserve(&Request::new(1).align(most)).expect("that is the most");
    assert!(area.start().is_aligned(most));
}

#[test]
fn addresses_run_out() {
    let fake = &fake();
    let vmalloc = &vmalloc_of(fake);
    let Err(AreaError::TooLarge { most, .. }) = vmalloc.reserve(&Request::new(usize::MAX)).map(drop) else {
        panic!("that is too large");
    };
    let all = vmalloc.reserve(&Request::new(most)).expect("all of it");
    for bytes in [1, CHUNK] {
        assert_eq!(vmalloc.alloc(&Request::new(bytes)).map(drop), Err(AreaError::NoSpace { bytes }));
        assert_eq!(vmalloc.alloc_waiting(&Request::new(bytes)).map(drop), Err(AreaError::NoSpace { bytes }));
        assert_eq!(vmalloc.reserve(&Request::new(bytes)).map(drop), Err(AreaError::NoSpace { bytes }));
    }
    drop(all);
    give_everything_back(fake, vmalloc);
    assert_nothing_left(fake, vmalloc);
}

#[test]
fn frames_run_out() {
    let fake = &Fake::new(Supply { frames: 1000, large: 0, ..Supply::plenty() });
    let vmalloc = &vmalloc_of(fake);
    let refused = vmalloc.vmalloc(1100 * PAGE).map(drop);
    assert_eq!(refused, Err(AreaError::NoFrames(FakeError::NoFrames)));
    let mut held = Vec::new();
    let refused = loop {
        match vmalloc.vmalloc(100 * PAGE) {
            Ok(area) => held.push(area),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AreaError::NoFrames(FakeError::NoFrames));
    assert!(held.len() > 7, "{} areas were had", held.len());
    drop(held);
    give_everything_back(fake, vmalloc);
    assert_nothing_left(fake, vmalloc);
}

#[test]
fn a_frame_is_not_mapped_twice_where_that_is_forbidden() {
    for twice in [false, true] {
        let fake = &Fake::new(Supply { lent_twice: twice, ..Supply::plenty() });
        let vmalloc = &vmalloc_of(fake);
        let frames = [5, 6, 7].map(|index| fake.lent_frame(index));
        let first = unsafe { vmalloc.vmap(frames.into_iter(), DATA, Tag::caller()) }.expect("they are lent once");
        let others = [8, 6, 9].map(|index| fake.lent_frame(index));
        let second = unsafe { vmalloc.map_ram(&others, DATA) }.map(drop);
        let itself = unsafe { vmalloc.map_ram(&[fake.lent_frame(1), fake.lent_frame(1)], DATA) }.map(drop);
        if twice {
            assert_eq!((second, itself), (Ok(()), Ok(())));
        } else {
            let refused =
                |index| Err(AreaError::Refused { frame: fake.lent_frame(index), reason: FakeError::LentTwice });
            assert_eq!((second, itself), (refused(6), refused(1)));
            assert_eq!(fake.lent(), (3, 3), "what was noted before the refusal is taken back");
        }
        drop(first);
        give_everything_back(fake, vmalloc);
        assert_nothing_left(fake, vmalloc);
    }
}

#[test]
fn a_cpu_that_is_unknown_gets_nothing_and_frees_nothing() {
    let fake = &fake();
    let vmalloc = &vmalloc_of(fake);
    let start = vmalloc.vmalloc(PAGE).unwrap().into_raw();
    fake.run_on(7);
    let (cpu, cpus) = (Cpu::new(7), 3);
    let unknown = Err(AreaError::UnknownCpu { cpu, cpus });
    assert_eq!(vmalloc.alloc(&Request::new(PAGE)).map(drop), unknown);
    assert_eq!(vmalloc.alloc_waiting(&Request::new(3 * CHUNK)).map(drop), unknown);
    assert_eq!(vmalloc.free(start), Err(FreeError::UnknownCpu { cpu, cpus }));
    vmalloc.answer_pressure();
    vmalloc.trim();
    vmalloc.leave_cpu();
    assert!(matches!(vmalloc.find(start), Found::Area(_)));
    fake.run_on(1);
    assert_eq!(vmalloc.free(start), Ok(()));
    give_everything_back(fake, vmalloc);
    assert_nothing_left(fake, vmalloc);
}

#[test]
fn only_the_beginning_of_an_area_is_freed_and_once() {
    let fake = &fake();
    let vmalloc = &vmalloc_of(fake);
    for bytes in [3 * PAGE - 5, 2 * CHUNK + 5 * PAGE, CHUNK] {
        let area = vmalloc.vmalloc(bytes).unwrap();
        let (info, start) = (area.info().expect("it is alive"), area.into_raw());
        for at in [1, 8, PAGE, 2 * PAGE, info.range.bytes() - 1] {
            let addr = start.wrapping_add(at);
            assert_eq!(vmalloc.free(addr), Err(FreeError::Inside { addr, area: info }));
        }
        for at in [0, 1, PAGE - 1] {
            let addr = info.range.end().wrapping_add(at);
            assert_eq!(vmalloc.free(addr), Err(FreeError::Guard { addr, area: info }));
        }
        for addr in [start.wrapping_sub(1), start.wrapping_sub(PAGE)] {
            assert_eq!(vmalloc.free(addr), Err(FreeError::Guard { addr, area: info }), "the guard below");
        }
        assert_eq!(vmalloc.free(start), Ok(()));
        let twice = Err(FreeError::Twice { addr: start, area: info });
        assert_eq!(vmalloc.free(start), twice);
        assert_eq!(vmalloc.free(start), twice);
        assert_eq!(vmalloc.find(start), Found::Freed(info));
    }
    give_everything_back(fake, vmalloc);
    assert_nothing_left(fake, vmalloc);
}

#[test]
fn what_is_not_ours_is_not_freed() {
    let fake = &fake();
    let vmalloc = &vmalloc_of(fake);
    let range = fake.range();
    let records = range.start();
    let outside = [
        VirtAddr::new(0),
        VirtAddr::new(usize::MAX),
        records.wrapping_sub(1),
        range.end(),
        records,
        records.wrapping_add(PAGE),
    ];
    for addr in outside {
        assert_eq!(vmalloc.free(addr), Err(FreeError::NotOurs { addr }));
    }
    let never = range.end().wrapping_sub(CHUNK);
    for addr in [never, never.wrapping_add(8 * PAGE), fake.records().end()] {
        assert_eq!(vmalloc.free(addr), Err(FreeError::NoArea { addr }));
        assert_eq!(vmalloc.find(addr), Found::Unused);
    }
}

/// Each error says what happened, to what.
#[test]
fn errors_name_what_they_are_about() {
    let fake = &fake();
    let vmalloc = &vmalloc_of(fake);
    let area = vmalloc.vmalloc(PAGE).unwrap();
    let addr = area.start().wrapping_add(16);
    let said = vmalloc.free(addr).unwrap_err().to_string();
    assert!(said.contains(&addr.to_string()) && said.contains("bad_input.rs"), "{said}");
    let said = vmalloc.vmalloc(0).map(drop).unwrap_err().to_string();
    assert!(said.contains("no bytes"), "{said}");
}

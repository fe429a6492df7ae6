//! A vmalloc over real page tables: what it gives can be used, what it does not give faults, and the fault has a name.

#![expect(clippy::unwrap_used, clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]

use core::hint::black_box;
use std::sync::Barrier;

use vmstack::{PhysAddr, Platform, VirtAddr};
use vmstack_hosted::{Areas, AreasConfig, Config, HostedError, Lending, Machine, Mapped, Outcome, Paged, Stray};
use vmstack_vmalloc::{Area, AreaError, Found, Kind, Request, Tag};

const PAGE: usize = 4096;
const CHUNK: usize = 2 << 20;

fn areas(cpus: usize) -> Areas<Mapped> {
    Areas::mapped(&AreasConfig::new(64 * CHUNK).frames(8192).cpus(cpus)).unwrap()
}

fn read(at: VirtAddr) -> u8 {
    unsafe { at.as_mut_ptr::<u8>().read_volatile() }
}

fn write(at: VirtAddr, byte: u8) {
    unsafe { at.as_mut_ptr::<u8>().write_volatile(byte) };
}

/// Runs `access` in a task of its own, which must be killed for it, and returns what was found.
#[track_caller]
fn strayed(access: impl FnOnce()) -> Stray {
    let machine = Machine::new(&Config::new(2, 64 << 10)).unwrap();
    let cpu = machine.cpu().unwrap();
    unsafe { cpu.spawn("guilty", access) }.unwrap();
    match &cpu.run()[0].outcome {
        Outcome::Strayed(stray) => **stray,
        other => panic!("it was not killed for a stray access: {other:?}"),
    }
}

/// Nothing is held but records, when nobody has an area.
fn assert_balanced(areas: &Areas<Mapped>) {
    areas.vmalloc().drain();
    let (recount, frames) = (areas.vmalloc().recount(), areas.frames());
    assert_eq!((recount.areas, recount.pages, recount.dying), (0, 0, 0), "{recount:?}");
    assert_eq!(frames.taken as u64, recount.record_pages, "{recount:?}");
}

type HostArea<'a> = Area<'a, Paged<Mapped>>;

fn frames_of(areas: &Areas<Mapped>, area: &HostArea<'_>) -> Vec<PhysAddr> {
    let pager = areas.vmalloc().pager();
    let pages = (0..area.bytes().div_ceil(PAGE)).map(|page| area.start().wrapping_add(page * PAGE));
    pages.map(|page| pager.translate(page).unwrap()).collect()
}

#[test]
fn the_guards_of_an_area_fault_and_name_it_with_its_caller() {
    let areas = areas(1);
    let _cpu = areas.cpu().unwrap();
    for bytes in [1, 5000, 100 * PAGE, CHUNK, 3 * CHUNK + 1] {
        let area = areas.vmalloc().vmalloc(bytes).unwrap();
        let line = line!() - 1;
        let info = area.info().unwrap();
        let (start, end) = (info.range.start(), info.range.end());
        for address in [end, end.wrapping_add(PAGE - 1)] {
            let stray = strayed(|| write(address, 1));
            let Found::Guard { below: Some(below), .. } = stray.found else { panic!("{bytes}: {stray:?}") };
            assert_eq!((stray.address, below), (address, info));
            assert_eq!(below.above(address), Some(address.get() - start.get() - bytes));
            let named = format!("{}:{line}", file!());
            assert!(stray.to_string().contains(&named), "{named}: {stray}");
        }
        let below = start.wrapping_sub(1);
        let stray = strayed(|| _ = black_box(read(below)));
        match stray.found {
            Found::Guard { above: Some(above), .. } => assert_eq!(above, info),
            // The first of its chunk: what lies below it is another chunk's, or where records are.
            Found::Guard { .. } | Found::Unused | Found::Freed(_) | Found::Records => assert!(start.is_aligned(CHUNK)),
            other => panic!("{bytes}: {other:?}"),
        }
        assert_eq!(read(start), read(start));
    }
    assert_balanced(&areas);
}

#[test]
fn two_areas_side_by_side_have_a_guard_between_them_that_names_both() {
    let areas = areas(1);
    let _cpu = areas.cpu().unwrap();
    let held: Vec<_> = (0..8).map(|_| areas.vmalloc().vmalloc(PAGE).unwrap()).collect();
    let named = held.iter().filter(|area| {
        let stray = strayed(|| write(area.info().unwrap().range.end(), 1));
        matches!(stray.found, Found::Guard { below: Some(below), above: Some(_) } if below == area.info().unwrap())
    });
    assert!(named.count() >= 4);
}

#[test]
fn a_freed_address_faults_on_every_cpu_and_is_named_while_nobody_else_has_it() {
    let areas = areas(2);
    let _cpu = areas.cpu().unwrap();
    for bytes in [10, 50 * PAGE, 2 * CHUNK] {
        let area = areas.vmalloc().vmalloc(bytes).unwrap();
        let (info, last) = (area.info().unwrap(), area.start().wrapping_add(bytes - 1));
        write(last, 1);
        drop(area);
        areas.vmalloc().drain();
        let here = strayed(|| write(last, 1));
        let there = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let _cpu = areas.cpu().unwrap();
                    strayed(|| write(last, 1))
                })
                .join()
                .unwrap()
        });
        for stray in [here, there] {
            match stray.found {
                Found::Freed(was) => assert_eq!(was, info),
                Found::Unused => {}
                other => panic!("{bytes}: {other:?}"),
            }
        }
    }
    assert_balanced(&areas);
}

#[test]
fn an_area_holds_what_is_written_to_it_from_its_first_byte_to_its_last() {
    let areas = areas(1);
    let _cpu = areas.cpu().unwrap();
    let sizes = [1, 4095, 4096, 4097, 60_000, 101 * PAGE, CHUNK - PAGE, CHUNK, CHUNK + 1, 5 * CHUNK];
    let held: Vec<_> = sizes.iter().map(|&bytes| (areas.vmalloc().vmalloc(bytes).unwrap(), bytes)).collect();
    let all = |(area, bytes): &(HostArea<'_>, usize)| {
        (0..*bytes).step_by(509).chain([bytes - 1]).map(|at| area.start().wrapping_add(at)).collect::<Vec<_>>()
    };
    let mark = |at: VirtAddr| ((at.get() / 7) ^ (at.get() / PAGE)) as u8;
    held.iter().flat_map(all).for_each(|at| write(at, mark(at)));
    assert!(held.iter().flat_map(all).all(|at| read(at) == mark(at)));
    drop(held);
    assert_balanced(&areas);
}

#[test]
fn zeroed_memory_is_zero_also_where_somebody_wrote_before() {
    let areas = Areas::mapped(&AreasConfig::new(8 * CHUNK).frames(700)).unwrap();
    let _cpu = areas.cpu().unwrap();
    for round in 0..20 {
        let bytes = [1, 3 * PAGE, 300 * PAGE, CHUNK][round % 4];
        let dirty = areas.vmalloc().vmalloc(bytes).unwrap();
        (0..bytes).step_by(64).for_each(|at| write(dirty.start().wrapping_add(at), 0xa5));
        drop(dirty);
        let clean = areas.vmalloc().vzalloc(bytes).unwrap();
        assert!((0..bytes).all(|at| read(clean.start().wrapping_add(at)) == 0), "{bytes} bytes, round {round}");
    }
    assert_balanced(&areas);
}

#[test]
fn mapped_frames_are_the_same_memory_under_two_addresses() {
    let areas = areas(1);
    let _cpu = areas.cpu().unwrap();
    let own = areas.vmalloc().vzalloc(6 * PAGE).unwrap();
    let mut frames = frames_of(&areas, &own);
    frames.reverse();
    let other = unsafe { areas.vmalloc().vmap(frames.iter().copied(), Lending::ReadWrite, Tag::caller()) }.unwrap();
    assert_eq!((other.info().unwrap().kind, other.info().unwrap().bytes), (Kind::Lent, 6 * PAGE));
    for page in 0..6 {
        write(own.start().wrapping_add(page * PAGE + 17), page as u8 + 1);
        assert_eq!(read(other.start().wrapping_add((5 - page) * PAGE + 17)), page as u8 + 1);
    }
    drop(other);
    areas.vmalloc().drain();
    assert_eq!(read(own.start().wrapping_add(17)), 1, "the frames stayed their owner's");
    drop(own);
    assert_balanced(&areas);
}

#[test]
fn what_is_lent_for_reading_cannot_be_written() {
    let areas = areas(1);
    let _cpu = areas.cpu().unwrap();
    let own = areas.vmalloc().vzalloc(PAGE).unwrap();
    let frames = frames_of(&areas, &own);
    let lent = unsafe { areas.vmalloc().map_ram(&frames, Lending::Read) }.unwrap();
    assert_eq!(read(lent.start()), 0);
    let stray = strayed(|| write(lent.start(), 1));
    assert_eq!(stray.found, Found::Area(lent.info().unwrap()));
    assert!(stray.to_string().contains("vm_map_ram"), "{stray}");
}

#[test]
fn a_frame_is_lent_once_at_a_time_and_only_if_there_is_one() {
    let areas = areas(1);
    let _cpu = areas.cpu().unwrap();
    let own = areas.vmalloc().vzalloc(3 * PAGE).unwrap();
    let frames = frames_of(&areas, &own);
    let lend = |frames: &[PhysAddr]| unsafe { areas.vmalloc().map_ram(frames, Lending::ReadWrite) };
    let lent = lend(&frames[1..2]).unwrap();
    let twice = HostedError::LentAlready { frame: frames[1] };
    assert_eq!(lend(&frames).err(), Some(AreaError::Refused { frame: frames[1], reason: twice }));
    assert!(lend(&[frames[0], frames[0]]).is_err());
    for nowhere in [PhysAddr::new(1 << 40), frames[0].wrapping_add(1)] {
        let reason = HostedError::NoSuchFrame { frame: nowhere };
        assert_eq!(lend(&[frames[0], nowhere]).err(), Some(AreaError::Refused { frame: nowhere, reason }));
    }
    drop(lent);
    areas.vmalloc().drain();
    // What was refused left nothing behind.
    drop(lend(&frames).unwrap());
    drop(own);
    assert_balanced(&areas);
}

#[test]
fn memory_that_is_not_there_is_an_error_and_waiting_areas_are_drained_before() {
    let areas = Areas::mapped(&AreasConfig::new(16 * CHUNK).frames(256)).unwrap();
    let _cpu = areas.cpu().unwrap();
    let error = areas.vmalloc().vmalloc(1000 * PAGE).err();
    assert!(matches!(error, Some(AreaError::NoFrames(HostedError::NoFrames { .. }))), "{error:?}");
    for round in 0..50 {
        drop(areas.vmalloc().vmalloc(200 * PAGE).unwrap_or_else(|error| panic!("round {round}: {error}")));
    }
    assert_balanced(&areas);
}

#[test]
fn an_alignment_is_kept() {
    let areas = areas(1);
    let _cpu = areas.cpu().unwrap();
    for shift in 0..=21 {
        let area = areas.vmalloc().alloc_waiting(&Request::new(3 * PAGE).align(1 << shift)).unwrap();
        assert!(area.start().is_aligned(1 << shift), "{} for {}", area.start(), 1 << shift);
        write(area.start().wrapping_add(3 * PAGE - 1), 1);
    }
    assert_balanced(&areas);
}

const THREADS: usize = 4;

/// One of many: areas of any size come and go, and each holds what was written to it until it goes.
fn churn(areas: &Areas<Mapped>, number: usize) {
    let _cpu = areas.cpu().unwrap();
    let (mut held, mut word) = (Vec::new(), 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1));
    for round in 0..400 {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pick = (word >> 33) as usize;
        if held.len() > 12 || (pick.is_multiple_of(3) && !held.is_empty()) {
            let (area, bytes, mark): (HostArea<'_>, usize, u8) = held.swap_remove(pick / 3 % held.len());
            for at in (0..bytes).step_by(PAGE).chain([bytes - 1]) {
                assert_eq!(read(area.start().wrapping_add(at)), mark, "thread {number}, round {round}");
            }
        } else {
            let bytes = 1 + pick / 3 % (60 * PAGE);
            let Ok(area) = areas.vmalloc().vmalloc(bytes) else { continue };
            let mark = (number * 50 + round % 50) as u8;
            (0..bytes).step_by(PAGE).chain([bytes - 1]).for_each(|at| write(area.start().wrapping_add(at), mark));
            held.push((area, bytes, mark));
        }
    }
}

#[test]
fn many_threads_have_areas_of_their_own_and_leave_nothing_behind() {
    let areas = areas(THREADS + 1);
    let together = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let (areas, together) = (&areas, &together);
            scope.spawn(move || {
                together.wait();
                churn(areas, number);
            });
        }
    });
    let _cpu = areas.cpu().unwrap();
    assert_balanced(&areas);
    assert!(areas.vmalloc().usage().allocated > 400);
}

#[test]
fn an_area_is_freed_by_another_thread_than_the_one_that_had_it() {
    let areas = areas(2);
    let _cpu = areas.cpu().unwrap();
    for bytes in [PAGE, 80 * PAGE, 2 * CHUNK] {
        let at = areas.vmalloc().vmalloc(bytes).unwrap().into_raw();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _cpu = areas.cpu().unwrap();
                areas.vmalloc().free(at).unwrap();
                assert!(areas.vmalloc().free(at).is_err(), "it is free already");
            });
        });
    }
    assert_balanced(&areas);
}

#[test]
fn the_same_over_tables_in_memory_leaves_nothing_behind() {
    let areas = Areas::tabled(&AreasConfig::new(64 * CHUNK).frames(8192).cpus(THREADS + 1)).unwrap();
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let areas = &areas;
            scope.spawn(move || {
                let _cpu = areas.cpu().unwrap();
                for round in 0..2000 {
                    let bytes = 1 + (round * 7919 + number * 31) % (100 * PAGE);
                    // None, while a thread that was put to sleep has not flushed what the others freed.
                    let Ok(area) = areas.vmalloc().vmalloc(bytes) else { continue };
                    let pager = areas.vmalloc().pager();
                    assert!(pager.translate(area.start().wrapping_add(bytes - 1)).is_some());
                    assert!(pager.translate(area.info().unwrap().range.end()).is_none());
                }
            });
        }
    });
    let _cpu = areas.cpu().unwrap();
    areas.vmalloc().drain();
    let recount = areas.vmalloc().recount();
    assert_eq!((recount.areas, recount.dying), (0, 0));
    assert!(areas.vmalloc().usage().allocated > 1000);
    assert_eq!(areas.frames().taken as u64, recount.record_pages);
}

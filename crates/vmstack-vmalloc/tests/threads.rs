//! Many CPUs at once, each a thread, with interrupts: what one does to a vmalloc, others survive.
//!
//! Whoever has an area writes its own mark there and finds it again. The fake platform watches the rest.

#![allow(clippy::unwrap_used, reason = "a test says what it does by failing")]
#![allow(clippy::allow_attributes, reason = "as in the fake")]

mod fake;

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use fake::cpus::{become_cpu, interrupted_by};
use fake::{CHUNK, Fake, Flush, PAGE, Supply, assert_nothing_left, give_everything_back, vmalloc_of};
use std::sync::Mutex;
use std::thread;
use vmstack::VirtAddr;
use vmstack_vmalloc::{Found, FreeError, Request, Vmalloc};

const CPUS: usize = 4;
const STEPS: usize = 2000;

/// One test at a time: threads that spin want a processor each.
static ALONE: Mutex<()> = Mutex::new(());

/// An area that somebody has: where it begins, how many bytes it has, and its mark.
type Had = (VirtAddr, usize, u64);

/// What all CPUs know: areas that change hands, and addresses that may be looked up.
struct Common<'f> {
    fake: &'f Fake,
    vmalloc: &'f Vmalloc<&'f Fake>,
    steps: usize,
    mail: Mutex<Vec<Had>>,
    names: Mutex<[VirtAddr; 16]>,
    had: AtomicUsize,
    found: AtomicUsize,
}

/// One CPU's numbers that look like chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn bytes(&mut self) -> usize {
        match self.below(16) {
            0 => 1 + self.below(3 * CHUNK),
            1..4 => 1 + self.below(128 * PAGE),
            _ => 1 + self.below(12 * PAGE),
        }
    }
}

impl Common<'_> {
    fn start(&self, chance: &mut Chance, held: &mut Vec<Had>) {
        let request = Request::new(chance.bytes()).align(if chance.below(8) == 0 { 32 * PAGE } else { 1 });
        let request = if chance.below(2) == 0 { request.zeroed() } else { request };
        let got = match chance.below(3) {
            0 => self.vmalloc.alloc_waiting(&request),
            _ => self.vmalloc.alloc(&request),
        };
        let Ok(area) = got else { return };
        let (bytes, mark) = (area.bytes(), chance.below(usize::MAX >> 34) as u64);
        let start = area.into_raw();
        self.fake.write(start, mark);
        self.fake.write(start.wrapping_add(bytes - 1), mark);
        self.names.lock().unwrap()[chance.below(16)] = start;
        self.had.fetch_add(1, Ordering::Relaxed);
        held.push((start, bytes, mark));
    }

    fn end(&self, (start, bytes, mark): Had) {
        assert_eq!(self.fake.read(start), mark, "somebody wrote to an area that he did not have");
        assert_eq!(
            self.fake.read(start.wrapping_add(bytes - 1)),
            mark,
            "somebody wrote to the end of an area that he did not have"
        );
        assert_eq!(self.fake.frame_at(start.wrapping_sub(1)), None, "INV-GUARD below");
        let Found::Area(info) = self.vmalloc.find(start) else { panic!("the area at {start} is not found") };
        assert_eq!((info.range.start(), info.bytes), (start, bytes));
        assert_eq!(self.vmalloc.free(start), Ok(()));
    }

    /// Looks for what may be going at this moment.
    fn look(&self, chance: &mut Chance) {
        let start = self.names.lock().unwrap()[chance.below(16)];
        let addr = start.wrapping_add(chance.below(4 * PAGE)).wrapping_sub(PAGE);
        match self.vmalloc.find(addr) {
            Found::Area(info) | Found::Freed(info) => {
                assert!(info.range.contains(addr) && info.bytes <= info.range.bytes(), "{info} at {addr}");
                self.found.fetch_add(1, Ordering::Relaxed);
            }
            Found::Guard { below, above } => {
                assert!(below.is_none_or(|below| below.range.end() <= addr), "{addr} is no guard of {below:?}");
                assert!(above.is_none_or(|above| addr < above.range.start()), "{addr} is no guard of {above:?}");
            }
            Found::Unused | Found::NotOurs | Found::Records => {}
            other => panic!("{other:?}"),
        }
    }

    fn keep_house(&self, chance: &mut Chance) {
        match chance.below(12) {
            0 => self.vmalloc.drain(),
            1 => self.vmalloc.trim(),
            2 => self.vmalloc.pressure(),
            3 => self.vmalloc.leave_cpu(),
            4 => self.vmalloc.for_each(|info| assert!(info.bytes <= info.range.bytes(), "{info}")),
            _ => self.vmalloc.answer_pressure(),
        }
    }

    fn run_cpu(&self, cpu: usize) {
        become_cpu(cpu as u32);
        let (mut chance, mut held) = (Chance(cpu as u64 + 1), Vec::new());
        for _ in 0..self.steps {
            match chance.below(16) {
                0..5 => self.start(&mut chance, &mut held),
                5..8 if !held.is_empty() => {
                    let which = chance.below(held.len());
                    self.end(held.swap_remove(which));
                }
                8..10 => self.mail.lock().unwrap().extend(held.pop()),
                10..13 => {
                    let got = self.mail.lock().unwrap().pop();
                    got.into_iter().for_each(|had| self.end(had));
                }
                13..15 => self.look(&mut chance),
                _ => self.keep_house(&mut chance),
            }
        }
        held.into_iter().for_each(|had| self.end(had));
        self.vmalloc.leave_cpu();
    }
}

fn all_together(flush: Flush, interrupts: bool) {
    let _alone = ALONE.lock();
    // More threads than the host has processors would spend their time waiting for whoever is next in a fair lock, and does not run.
    let cpus = if interrupts { 2 } else { CPUS };
    let fake = &Fake::new(Supply { cpus, flush, chunks: 200, ..Supply::plenty() });
    let vmalloc = &vmalloc_of(fake);
    let names = Mutex::new([fake.range().start(); 16]);
    let (mail, had, found) = (Mutex::default(), AtomicUsize::new(0), AtomicUsize::new(0));
    // An interrupt comes several times in each step.
    let steps = if interrupts { STEPS / 8 } else { STEPS };
    let common = Common { fake, vmalloc, steps, mail, names, had, found };
    thread::scope(|scope| {
        for cpu in 0..cpus {
            let common = &common;
            let handler = move || drop(common.vmalloc.alloc(&Request::new((1 + cpu) * PAGE)));
            scope.spawn(move || match interrupts {
                true => interrupted_by(&handler, || common.run_cpu(cpu)),
                false => common.run_cpu(cpu),
            });
        }
    });
    let left = common.mail.lock().unwrap().split_off(0);
    left.into_iter().for_each(|had| common.end(had));
    assert!(
        common.had.into_inner() > steps * cpus / 8 && common.found.into_inner() > steps * cpus / 100,
        "enough was done"
    );
    give_everything_back(fake, vmalloc);
    assert_nothing_left(fake, vmalloc);
}

#[test]
fn cpus_that_flush_at_once() {
    all_together(Flush::Now, false);
}

#[test]
fn cpus_that_flush_late() {
    all_together(Flush::WhenAsked, false);
}

#[test]
fn cpus_that_are_interrupted() {
    all_together(Flush::WhenAsked, true);
}

/// Where two threads meet, as close together as they can be. It is over when one of them panics: the other must not wait for ever.
#[derive(Default)]
struct Meeting {
    arrived: AtomicUsize,
    over: AtomicBool,
}

/// One of the two.
struct Party<'m>(&'m Meeting, usize);

impl Party<'_> {
    fn meet(&mut self) {
        self.1 += 2;
        self.0.arrived.fetch_add(1, Ordering::AcqRel);
        for spins in 1_usize.. {
            if self.0.arrived.load(Ordering::Acquire) >= self.1 {
                return;
            }
            assert!(!self.0.over.load(Ordering::Relaxed), "the other one has panicked");
            if spins.is_multiple_of(1000) {
                thread::yield_now();
            }
        }
    }
}

impl Drop for Party<'_> {
    fn drop(&mut self) {
        self.0.over.fetch_or(thread::panicking(), Ordering::Relaxed);
    }
}

/// Two CPUs free the same area in the same moment: one of them has, and the other hears that it was free.
#[test]
fn of_two_that_free_an_area_at_once_one_does() {
    let _alone = ALONE.lock();
    let fake = &Fake::new(Supply { cpus: 2, ..Supply::plenty() });
    let vmalloc = &vmalloc_of(fake);
    let (meeting, at, freed) = (Meeting::default(), Mutex::new(VirtAddr::new(0)), AtomicUsize::new(0));
    thread::scope(|scope| {
        for cpu in 0..2 {
            let (mut party, at, freed) = (Party(&meeting, 0), &at, &freed);
            scope.spawn(move || {
                become_cpu(cpu);
                for round in 0..1500_usize {
                    if round % 2 == cpu as usize {
                        let pages = if round.is_multiple_of(16) { 700 } else { 1 + round % 9 };
                        *at.lock().unwrap() = vmalloc.vmalloc(pages * PAGE).unwrap().into_raw();
                    }
                    party.meet();
                    let addr = *at.lock().unwrap();
                    party.meet();
                    match vmalloc.free(addr) {
                        Ok(()) => drop(freed.fetch_add(1, Ordering::Relaxed)),
                        Err(FreeError::Twice { addr: said, area }) => {
                            assert_eq!((said, area.range.start()), (addr, addr));
                        }
                        Err(error) => panic!("{error}"),
                    }
                    party.meet();
                    assert_eq!(freed.load(Ordering::Relaxed), round + 1, "exactly one freed it");
                    party.meet();
                }
            });
        }
    });
    give_everything_back(fake, vmalloc);
    assert_nothing_left(fake, vmalloc);
}

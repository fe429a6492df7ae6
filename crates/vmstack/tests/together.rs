//! Many CPUs at once, each a thread, with interrupts: what one does to an area, others survive.
//!
//! Whoever has a stack writes its own mark there and finds it again; whoever has a pin never reads what is not mapped. The fake
//! platform watches the rest: frames that a TLB still knows, pages that are mapped twice, methods called without a guard.

mod fake;

use core::sync::atomic::{AtomicUsize, Ordering};
use fake::cpus::{become_cpu, interrupted_by};
use fake::{Area, Fake, FakeError, Flush, SIZE, Stack, UNMAPPED, area_of, assert_held_is_right, numbered_area_of};
use std::sync::Mutex;
use std::thread;
use vmstack::{AllocError, Node, Placement, Platform, StackId};

const MIB: usize = 1 << 20;
const CPUS: usize = 4;
const NODES: usize = 2;
const STEPS: usize = 4000;
const SLOTS: usize = 160;
/// Where numbers lead to slots, all CPUs come with these: often with the same at once.
const NUMBERS: usize = 24;

/// What all CPUs know: stacks that change hands, and the names of stacks that may be pinned.
struct Common<'f> {
    fake: &'f Fake,
    area: &'f Area<'f>,
    placement: Placement,
    mail: Mutex<Vec<(Stack<'f>, u8)>>,
    names: Mutex<[Option<StackId>; 16]>,
    pinned: AtomicUsize,
}

/// One CPU's numbers that look like chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

impl<'f> Common<'f> {
    /// Some stack, or that of `number`.
    fn ask(&self, number: usize) -> Result<Stack<'f>, AllocError<FakeError>> {
        match self.placement {
            Placement::Numbered => self.area.alloc_numbered(number as u32, 1),
            _ => self.area.alloc(1),
        }
    }

    /// Takes a stack, and marks it.
    fn start(&self, chance: &mut Chance, held: &mut Vec<(Stack<'f>, u8)>) {
        let node = Node::new(chance.below(NODES) as u8);
        let asked = chance.below(4) == 0 && self.placement == Placement::Any;
        let got = if asked { self.area.alloc_on(node, 1) } else { self.ask(chance.below(NUMBERS)) };
        let Ok(stack) = got else { return };
        assert!(self.fake.reads_zero(stack.bottom(), SIZE), "INV-ZERO");
        assert!(!asked || self.fake.node_of(stack.bottom()) == node, "another node than the one that was asked for");
        let mark = 1 + chance.below(200) as u8;
        (0..=chance.below(4)).for_each(|page| self.fake.write(stack.top().wrapping_sub(page * 4096 + 8), mark));
        self.names.lock().expect("nobody panicked")[chance.below(16)] = Some(stack.id());
        held.push((stack, mark));
    }

    /// Finds the mark, and gives the stack back in one of the ways.
    fn end(&self, chance: &mut Chance, (stack, mark): (Stack<'f>, u8)) {
        let found = unsafe_read(&stack);
        assert_eq!(found, mark, "somebody wrote to a stack that he did not have");
        match chance.below(4) {
            0 => stack.hand_over(&self.fake.enter()),
            1 => self.area.reap(),
            2 => stack.free_in(&self.fake.enter()),
            _ => drop(stack),
        }
    }

    /// Reads somebody's stack, for a while.
    fn look(&self, chance: &mut Chance) {
        let id = self.names.lock().expect("nobody panicked")[chance.below(16)];
        let Some(Ok(pin)) = id.map(|id| self.area.pin(id)) else { return };
        for _ in 0..chance.below(20) {
            let word = pin.word(pin.top().wrapping_sub(4096 * (1 + chance.below(4)))).expect("a word of the stack");
            assert_ne!(word, usize::from_ne_bytes([UNMAPPED; 8]), "a pinned stack was unmapped");
            thread::yield_now();
        }
        self.pinned.fetch_add(1, Ordering::Relaxed);
    }

    fn keep_house(&self, chance: &mut Chance) {
        match chance.below(12) {
            0 => self.area.drain(),
            1 => self.area.trim(),
            2 => self.area.pressure(),
            3 => self.area.leave_cpu(),
            4 => self.area.set_budget(chance.below(100)),
            5 => self.area.set_budget(usize::MAX),
            _ => self.area.answer_pressure(),
        }
    }

    fn run_cpu(&self, cpu: usize) {
        become_cpu(cpu as u32);
        let (mut chance, mut held) = (Chance(cpu as u64 + 1), Vec::new());
        for _ in 0..STEPS {
            match chance.below(16) {
                0..6 => self.start(&mut chance, &mut held),
                6..9 if !held.is_empty() => {
                    let which = chance.below(held.len());
                    self.end(&mut chance, held.swap_remove(which));
                }
                9..11 => self.mail.lock().expect("nobody panicked").extend(held.pop()),
                11..13 => {
                    let got = self.mail.lock().expect("nobody panicked").pop();
                    got.into_iter().for_each(|stack| self.end(&mut chance, stack));
                }
                13 => self.area.reap(),
                14 => self.look(&mut chance),
                _ => self.keep_house(&mut chance),
            }
        }
        held.into_iter().for_each(|stack| self.end(&mut chance, stack));
        self.area.leave_cpu();
    }
}

/// The byte that marks a stack.
#[expect(unsafe_code, reason = "a test reads the stack that it has")]
fn unsafe_read(stack: &Stack<'_>) -> u8 {
    // SAFETY: the stack is mapped, as long as there is a handle.
    unsafe { stack.top().wrapping_sub(8).as_mut_ptr::<u8>().read() }
}

fn all_together(flush: Flush, interrupts: bool, placement: Placement) {
    let fake = &Fake::new(CPUS, SLOTS * 4 + 20, 16 * MIB, flush).on_nodes(NODES);
    let area = &if placement == Placement::Numbered { numbered_area_of(fake, SLOTS) } else { area_of(fake, SLOTS) };
    let (mail, names, pinned) = (Mutex::default(), Mutex::default(), AtomicUsize::new(0));
    let common = Common { fake, area, placement, mail, names, pinned };
    thread::scope(|scope| {
        for cpu in 0..CPUS {
            let common = &common;
            let handler = move || drop(common.ask(cpu));
            scope.spawn(move || match interrupts {
                true => interrupted_by(&handler, || common.run_cpu(cpu)),
                false => common.run_cpu(cpu),
            });
        }
    });
    let (mail, pinned) = (common.mail.into_inner().expect("nobody panicked"), common.pinned.into_inner());
    drop(mail);
    // Interrupts have come since the CPUs left.
    for cpu in 0..CPUS {
        fake.run_on(cpu);
        area.leave_cpu();
    }
    assert!(pinned > 10, "{pinned} pins were had");
    assert_held_is_right(area);
    area.set_budget(usize::MAX);
    area.drain();
    let (recount, counters) = (area.recount(), area.counters());
    assert_eq!((recount.free, recount.leaked), (SLOTS, 0), "{recount:?}");
    assert_eq!(counters.allocated, counters.released);
    assert_eq!(fake.frames_free(), SLOTS * 4 + 20 - recount.metadata_pages, "all frames are back");
}

#[test]
fn cpus_that_flush_at_once() {
    all_together(Flush::Now, false, Placement::Any);
}

#[test]
fn cpus_that_flush_late() {
    all_together(Flush::WhenAsked, false, Placement::Any);
}

#[test]
fn cpus_that_are_interrupted() {
    all_together(Flush::WhenAsked, true, Placement::Any);
}

#[test]
fn cpus_that_come_with_the_same_numbers() {
    all_together(Flush::Now, false, Placement::Numbered);
}

#[test]
fn cpus_that_come_with_the_same_numbers_and_flush_late() {
    all_together(Flush::WhenAsked, false, Placement::Numbered);
}

#[test]
fn cpus_that_come_with_the_same_numbers_and_are_interrupted() {
    all_together(Flush::WhenAsked, true, Placement::Numbered);
}

//! Stale translations: whether a CPU that still knows a page as it was can do harm, and that it would be noticed.
//!
//! | experiment | what happens to stacks that were written | what a stale translation does then |
//! | --- | --- | --- |
//! | `zero` | their dirty bits are taken back, and they are handed out again | a write leaves no bit: the next owner finds what was written (INV-ZERO) |
//! | `frame` | they are unmapped, somebody takes their frames, and their slots are mapped anew | a write goes to the frames' new owner (INV-FRAME) |
//!
//! Each is done with either way of flushing, which must be clean, and with two planted bugs, which must be caught ([`How`]). The
//! one who writes is this CPU or another one. That one *hears*: it takes interrupts, and looks whether it is behind. Or it is *deaf*: it does
//! neither while the experiment lasts. As long as it is, nothing may be handed out again.
//!
//! Everything goes through the calls that `clone` uses. Facts only: the words that are not zero where all should be.

use core::iter;
use core::sync::atomic::{AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use vmstack::{PhysAddr, Platform, VirtAddr};

use crate::arch::clock;
use crate::arch::cpu::{self, InterruptsOff};
use crate::arch::layout::{PAGE_SIZE, phys_to_virt};
use crate::mm::{frames, tables};
use crate::stacks::shootdown::{self, How, flush_by};
use crate::stacks::{Kernel, Stack, TASK_STACK, TASKS};
use crate::sync::Section;
use crate::task::{self, sched};
use crate::{boot, fact, pressure};

/// How many stacks an experiment has: as many as have their dirty bits taken back together.
const STACKS: usize = 16;
/// How many are taken when some were given back, and how many stacks' frames: more, for others may have given back some as well.
const TAKEN: usize = STACKS + 4;
/// Turns of the first experiment: in the second all stacks are seen to be deep, in the third they are handed out again, and in the fourth
/// it is seen what that left.
const TURNS: usize = 4;
/// How often each experiment is made: a CPU may forget a translation by itself.
const ROUNDS: usize = 4;
/// How long other CPUs' flushes are waited for, in nanoseconds.
const PATIENCE: u64 = 10 * clock::SECOND;

const WAYS: [(&str, How); 4] =
    [("message", How::Message), ("at-switch", How::AtSwitch), ("never", How::Never), ("too-early", How::TooEarly)];

/// Who writes to the stacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Writer {
    Here,
    Hearing,
    Deaf,
}

const WRITERS: [(&str, Writer); 3] = [("here", Writer::Here), ("hearing", Writer::Hearing), ("deaf", Writer::Deaf)];

/// What came of an experiment.
#[derive(Default)]
struct Outcome {
    /// Stacks that were handed out again, whose translations may be stale.
    again: usize,
    /// Words that are not zero.
    words: usize,
}

type Experiment = fn(&Section, Writer) -> Outcome;
type Stacks = ArrayVec<Stack, TAKEN>;

/// Does both, in every way, and with everybody who can write.
pub(crate) fn show() {
    let writers = if boot::cpus() > 1 { WRITERS.len() } else { 1 };
    fact!("stale.cpus", "{}", boot::cpus());
    for (way, how) in WAYS {
        for (name, writer) in &WRITERS[..writers] {
            for (fact, experiment) in [("stale.zero", zero as Experiment), ("stale.frame", frame)] {
                let outcomes = (0..ROUNDS).map(|_| with(how, *writer, experiment));
                let (again, words) =
                    outcomes.fold((0, 0), |(again, words), outcome| (again + outcome.again, words + outcome.words));
                fact!(fact, "{way} {name} {} {again} {words}", ROUNDS * STACKS);
            }
        }
    }
}

/// Does `experiment` where CPUs flush by `how`, alone on this CPU, and leaves no stale translation behind.
fn with(how: How, writer: Writer, experiment: Experiment) -> Outcome {
    pressure::give_everything_back();
    if writer != Writer::Here {
        let spawned = task::spawn_kernel("writer", write_on_order, 0);
        assert!(spawned.is_ok(), "the machine has no memory left");
    }
    let section = Section::enter();
    if writer != Writer::Here {
        wait_until(Order::None);
    }
    flush_by(how);
    let outcome = experiment(&section, writer);
    if writer != Writer::Here {
        tell(Order::End);
    }
    shootdown::flush_all();
    flush_by(How::Message);
    outcome
}

/// Whether a write to a stack whose dirty bits were taken back can be hidden.
fn zero(section: &Section, writer: Writer) -> Outcome {
    let mut outcome = Outcome::default();
    let mut before = ArrayVec::<VirtAddr, STACKS>::new();
    for turn in 0..TURNS {
        let stacks = take(section, STACKS);
        outcome.words += stacks.iter().map(|stack| words_at(stack.bottom(), TASK_STACK)).sum::<usize>();
        if turn == 2 {
            outcome.again = stacks.iter().filter(|stack| before.contains(&stack.top())).count();
        }
        before = stacks.iter().map(Stack::top).collect();
        write(writer, &stacks);
        give(section, stacks);
        settle(writer);
    }
    outcome
}

/// Whether a write to a stack can reach the frames that another one had in its place.
fn frame(section: &Section, writer: Writer) -> Outcome {
    let first = take(section, STACKS);
    let before: ArrayVec<_, STACKS> =
        first.iter().map(|stack| (stack.top(), tables::translate(stack.bottom()))).collect();
    write(writer, &first);
    give(section, first);
    TASKS.pressure();
    settle(writer);
    // The next owner.
    let taken: ArrayVec<PhysAddr, TAKEN> = (0..TAKEN).filter_map(|_| frames::take_run()).collect();
    let second = take(section, TAKEN);
    write(writer, &second);
    let is_again = |stack: &&Stack| {
        let frame = before.iter().find(|(top, _)| *top == stack.top()).and_then(|(_, frame)| *frame);
        frame.is_some_and(|frame| taken.contains(&frame))
    };
    let again = second.iter().filter(is_again).count();
    let words = taken.iter().map(|&run| words_at(phys_to_virt(run), frames::RUN_FRAMES * PAGE_SIZE)).sum();
    give(section, second);
    let mut giving = frames::giving();
    taken.into_iter().for_each(|run| giving.run(run));
    Outcome { again, words }
}

fn take(section: &Section, count: usize) -> Stacks {
    (0..count).filter_map(|_| TASKS.alloc_in(section, 1).ok()).collect()
}

fn give(section: &Section, stacks: Stacks) {
    stacks.into_iter().for_each(|stack| stack.free_in(section));
}

/// Words that are not zero in `bytes` bytes from `start`.
fn words_at(start: VirtAddr, bytes: usize) -> usize {
    let words = (0..bytes).step_by(8).map(|offset| start.wrapping_add(offset).as_mut_ptr::<u64>());
    // SAFETY: callers name memory that is mapped and that they own; volatile, for who writes to it may know it by another address.
    words.filter(|word| unsafe { word.read_volatile() } != 0).count()
}

/// Lets everything that waits for other CPUs' flushes go on, if they flush: on this CPU, and on those that helped to give back what was to
/// be given back, which look at their ticks.
fn settle(writer: Writer) {
    TASKS.answer_pressure();
    if writer == Writer::Deaf {
        return;
    }
    let end = clock::now() + PATIENCE;
    loop {
        // Numbered behind all that it is about.
        let ticket = Kernel.shootdown(iter::empty());
        while !Kernel.flushed(&ticket) && clock::now() < end {
            if writer == Writer::Hearing {
                tell(Order::Hear);
            }
            cpu::relax();
        }
        TASKS.answer_pressure();
        let counters = TASKS.counters();
        if counters.unmapped == counters.retired || clock::now() >= end {
            return;
        }
        // The batch may be that CPU's own.
        if writer == Writer::Hearing {
            tell(Order::Hear);
        }
    }
}

// ---- who writes ------------------------------------------------------------------------------------------------------

/// What the writer on the other CPU is to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
enum Order {
    /// It is there, and has done what it was told.
    None,
    Write,
    Hear,
    End,
    /// It has done that: there is none.
    Gone,
}

static ORDER: AtomicUsize = AtomicUsize::new(Order::Gone as usize);
/// The tops of the stacks that it is to write to; zeros behind them.
static TOPS: [AtomicUsize; TAKEN] = [const { AtomicUsize::new(0) }; TAKEN];

/// Has `writer` write to each page of `stacks`.
fn write(writer: Writer, stacks: &Stacks) {
    let tops = stacks.iter().map(|stack| stack.top().get()).chain(iter::repeat(0));
    TOPS.iter().zip(tops).for_each(|(place, top)| place.store(top, Ordering::Relaxed));
    match writer {
        Writer::Here => write_to_all(),
        Writer::Hearing | Writer::Deaf => tell(Order::Write),
    }
}

fn write_to_all() {
    let tops = TOPS.iter().map(|top| VirtAddr::new(top.load(Ordering::Relaxed))).take_while(|top| top.get() != 0);
    for page in tops.flat_map(|top| (1..=TASK_STACK / PAGE_SIZE).map(move |page| top.wrapping_sub(page * PAGE_SIZE))) {
        // SAFETY: a word of a stack that was handed out to the experiment, and that nobody runs on.
        unsafe { page.as_mut_ptr::<u64>().write_volatile(1) };
    }
}

/// Gives the other CPU's writer an order, and waits until it has done it.
fn tell(order: Order) {
    ORDER.store(order as usize, Ordering::Release);
    wait_until(if order == Order::End { Order::Gone } else { Order::None });
}

fn wait_until(order: Order) {
    while ORDER.load(Ordering::Acquire) != order as usize {
        cpu::relax();
    }
}

/// The writer on the other CPU. It has that for itself: interrupts are off, and so they are where it is told what to do.
extern "C" fn write_on_order(_: usize) -> ! {
    sched::begin();
    let interrupts = InterruptsOff::new();
    ORDER.store(Order::None as usize, Ordering::Release);
    loop {
        match ORDER.load(Ordering::Acquire) {
            order if order == Order::Write as usize => write_to_all(),
            order if order == Order::Hear as usize => hear(),
            order if order == Order::End as usize => break,
            _ => {
                cpu::relax();
                continue;
            }
        }
        ORDER.store(Order::None as usize, Ordering::Release);
    }
    shootdown::flush_all();
    ORDER.store(Order::Gone as usize, Ordering::Release);
    drop(interrupts);
    sched::exit()
}

/// Does what a CPU does now and then that is not deaf.
fn hear() {
    cpu::take_interrupts();
    shootdown::pass();
}

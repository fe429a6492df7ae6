//! The story of an overflow, told by a real one: what `vmstack run` shows first.
//!
//! Four workers and one task that calls itself without end share a machine. The task runs into its guard, is reported and
//! killed; the workers finish. Then the memory is fragmented until no two free frames lie side by side, and a stack is
//! mapped all the same. Then it is the turn of areas of any size (`areas`). The module prints nothing: it returns what happened, as facts to judge and text to show.
//!
//! Context: any thread that is not inside a task of its own; takes some milliseconds.

use core::cell::{Cell, RefCell};
use core::error::Error;
use core::hint::black_box;

use crate::config::Config;
use crate::cpu::{Cpu, yield_now};
use crate::machine::{Machine, SlotState};
use crate::task::{Death, Ended, Outcome};

mod areas;

pub use areas::AreaStory;

/// The size of a stack in the story, in bytes.
pub const STACK_SIZE: usize = 16 << 10;

const WORKERS: usize = 4;
const ROUNDS: usize = 16;
const SLOTS: usize = 8;
/// What the overflowing task is called.
const GUILTY: &str = "recurse";

/// What is left in a machine that nobody uses, found by recount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Balance {
    /// Frames that somebody holds.
    pub frames_taken: usize,
    /// Of these, the frames of the area's own records, which stay.
    pub record_frames: usize,
    /// Slots that are not free.
    pub slots_held: usize,
    /// Slots that were given up for ever.
    pub slots_leaked: usize,
    /// Pages between the stacks that can be accessed.
    pub open_guard_pages: Option<usize>,
}

/// What came of allocating a stack when memory was fragmented.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Fragmented {
    /// The bytes that were free.
    pub free_bytes: usize,
    /// The bytes of a stack.
    pub stack_bytes: usize,
    /// The longest run of free frames side by side, in bytes: what a contiguous stack could be made of.
    pub longest_run_bytes: usize,
    /// Whether a stack of single frames could be had.
    pub mapped: bool,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Story {
    /// The reports, with the calls that led there, one after the other.
    pub report: String,
    /// How many overflows were reported.
    pub reported: usize,
    /// Who was killed.
    pub killed: Vec<String>,
    /// How many other tasks there were.
    pub others: usize,
    /// How many of them finished their work.
    pub survivors: usize,
    /// The slots while the tasks ran, after the overflow.
    pub slots: Vec<SlotState>,
    /// How many slots the machine has.
    pub slot_count: usize,
    /// Pages between the stacks that could be accessed while the tasks ran, as the kernel tells.
    pub open_guard_pages: Option<usize>,
    /// What was held before the first task.
    pub before: Balance,
    /// What was held after the last.
    pub after: Balance,
    /// The part about fragmentation.
    pub fragmented: Fragmented,
    /// The part about areas.
    pub areas: AreaStory,
}

/// Counts what a machine holds.
#[must_use]
pub fn balance(machine: &Machine) -> Balance {
    let slots = machine.area().recount();
    Balance {
        frames_taken: machine.frames().taken,
        record_frames: slots.metadata_pages,
        slots_held: slots.mapped() + slots.retiring,
        slots_leaked: slots.leaked,
        open_guard_pages: machine.open_guard_pages(),
    }
}

/// Calls itself until the stack ends.
///
/// Each call has a frame of its own and moves the stack pointer, so the end is a real overflow.
#[must_use]
#[inline(never)]
pub fn recurse(depth: usize) -> usize {
    let frame = black_box([depth; 4]);
    if black_box(depth) == usize::MAX {
        return 0;
    }
    recurse(depth + 1) + black_box(frame)[0]
}

/// What the tasks leave behind while they run.
#[derive(Debug, Default)]
struct Seen {
    sum: Cell<usize>,
    slots: RefCell<Vec<SlotState>>,
    open_guard_pages: Cell<Option<usize>>,
}

/// Tells the story.
///
/// # Errors
///
/// What kept it from being told: no memory, no address space, no CPU.
pub fn tell() -> Result<Story, Box<dyn Error>> {
    let machine = Machine::new(&Config::new(SLOTS, STACK_SIZE).measure())?;
    let seen = Seen::default();
    let cpu = machine.cpu()?;
    let before = balance(&machine);
    start(&cpu, &machine, &seen)?;
    let ended = cpu.run();
    machine.area().drain();
    let after = balance(&machine);
    let deaths: Vec<_> = ended.iter().filter_map(death).collect();
    Ok(Story {
        report: deaths.iter().map(|(_, death)| render(&machine, death)).collect::<Vec<_>>().join("\n"),
        reported: deaths.len(),
        killed: deaths.iter().map(|(name, _)| (*name).to_owned()).collect(),
        others: ended.len() - deaths.len(),
        survivors: seen.sum.get() / ROUNDS,
        slots: seen.slots.take(),
        slot_count: SLOTS,
        open_guard_pages: seen.open_guard_pages.get(),
        before,
        after,
        fragmented: fragment()?,
        areas: areas::tell()?,
    })
}

/// The workers, with the guilty one among them.
fn start<'m>(cpu: &Cpu<'m>, machine: &'m Machine, seen: &'m Seen) -> Result<(), Box<dyn Error>> {
    for i in 0..WORKERS {
        if i == WORKERS / 2 {
            // SAFETY: nothing outside points into a stack that only calls itself.
            unsafe {
                cpu.spawn(GUILTY, || {
                    black_box(recurse(1));
                })
            }?;
        }
        // SAFETY: a worker keeps a number on its stack, and nobody knows where.
        unsafe { cpu.spawn(&format!("worker {i}"), move || work(machine, seen)) }?;
    }
    Ok(())
}

/// A worker: counts its rounds. Half way, long after the overflow, it looks at the machine.
fn work(machine: &Machine, seen: &Seen) {
    for round in 0..ROUNDS {
        if round == ROUNDS / 2 && seen.slots.borrow().is_empty() {
            seen.slots.replace(machine.slots());
            seen.open_guard_pages.set(machine.open_guard_pages());
        }
        seen.sum.set(seen.sum.get() + 1);
        yield_now();
    }
}

fn death(ended: &Ended) -> Option<(&str, &Death)> {
    match &ended.outcome {
        Outcome::Killed(death) => Some((&ended.name, death)),
        _ => None,
    }
}

/// The report of a death, with its trace, without a line break at the end.
#[must_use]
pub fn render(machine: &Machine, death: &Death) -> String {
    format!("{}\n{}", machine.report(&death.fault), death.trace).trim_end().to_owned()
}

/// With every other frame taken, no two free ones lie side by side. Asks for a stack.
fn fragment() -> Result<Fragmented, Box<dyn Error>> {
    let machine = Machine::new(&Config::new(SLOTS, STACK_SIZE).frames(256))?;
    let page = machine.area().geometry().map_or(0, vmstack::Geometry::page_size);
    let _cpu = machine.cpu()?;
    let _fragmentation = machine.fragment();
    let frames = machine.frames();
    let mapped = machine.area().alloc(0).is_ok();
    Ok(Fragmented {
        free_bytes: frames.free * page,
        stack_bytes: STACK_SIZE,
        longest_run_bytes: frames.longest_free_run * page,
        mapped,
    })
}

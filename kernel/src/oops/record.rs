//! What is remembered of a fault: taken in the fault path, printed after, kept in a ring for whoever reads it later.

use alloc::vec::Vec;
use core::fmt::Write;
use core::slice;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use vmstack::{PrintState, Ring, RingRecord, StackFault, Trace, VirtAddr, VirtRange};

use super::Judged;
use super::area::AreaFault;
use super::marks::{Step, reached};
use super::place::Place;
use super::text;
use crate::arch::frame::TrapFrame;
use crate::arch::layout::Image;
use crate::arch::percpu;
use crate::console::Console;
use crate::mm::heap::{Amount, OutOfHeap};
use crate::sync::{GivenBack, HeldNames};
use crate::task::kept::Returned;
use crate::task::sched;
use crate::text::Text;
use crate::trace;

/// How many records there are: more than CPUs that can be in the middle of one.
const RECORDS: usize = 128;

/// What came of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Killed,
    Abandoned,
    Replaced,
    Stopped,
}

impl Fate {
    /// The word in facts.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Abandoned => "abandoned",
            Self::Replaced => "replaced",
            Self::Stopped => "stopped",
        }
    }
}

/// The bytes of code around the instruction that faulted.
#[derive(Clone, Copy, Debug)]
pub(super) struct CodeBytes {
    bytes: [u8; Self::BEFORE + Self::AFTER],
    /// How many were readable, and where the instruction's own start.
    len: usize,
    instruction: usize,
}

impl CodeBytes {
    /// As many as Linux shows: tools that disassemble reports expect them.
    const BEFORE: usize = 42;
    const AFTER: usize = 22;

    /// None: zero from end to end.
    const NONE: Self = Self { bytes: [0; Self::BEFORE + Self::AFTER], len: 0, instruction: 0 };

    /// Takes the code around `at`, as far as it is in the kernel's image: that is mapped.
    fn take(&mut self, at: VirtAddr) {
        let text = Image::linked().text();
        let start = at.wrapping_sub(Self::BEFORE).max(text.start());
        let end = at.wrapping_add(Self::AFTER).min(text.end());
        if at < text.start() || at >= text.end() {
            (self.len, self.instruction) = (0, 0);
            return;
        }
        self.len = end.distance(start);
        self.instruction = at.distance(start);
        // SAFETY: `len` bytes of the kernel's own code, which is mapped for reading for ever and not written to.
        let text = unsafe { slice::from_raw_parts(start.as_mut_ptr::<u8>().cast_const(), self.len) };
        self.bytes[..self.len].copy_from_slice(text);
    }

    /// The bytes before the instruction, and from it on.
    pub(super) fn parts(&self) -> (&[u8], &[u8]) {
        self.bytes[..self.len].split_at(self.instruction)
    }
}

/// What is remembered of a fault until it is printed, and after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Oops {
    pub(crate) fault: StackFault,
    /// Of the vmalloc, if it was not about a stack.
    pub(super) area: AreaFault,
    pub(super) frame: TrapFrame,
    pub(super) code: CodeBytes,
    pub(super) trace: Trace,
    pub(super) place: Place,
    pub(super) fate: Fate,
    /// The current task's number; zero for an idle one, or none.
    pub(crate) task: usize,
    pub(super) preempt_count: u32,
    pub(super) irq_depth: u32,
    pub(super) vital: u32,
    pub(super) locks: HeldNames,
    /// The stack of the task that ran, if it was a task that faulted.
    pub(super) own_stack: VirtRange,
    pub(super) number: u64,
}

/// What was done for the victim, and what could not be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aftermath {
    /// Interrupts that were being delivered when the stack ended, and that were served after.
    pub(super) served: usize,
    /// Locks that were given back.
    pub(super) locks: GivenBack,
    /// What its frames used and its struct owned.
    pub(super) kept: Returned,
    /// What its frames may have owned of the heap.
    pub(super) heap: Amount,
    /// It was dying already, and did not give back what it had.
    pub(super) cut_short: bool,
}

impl Aftermath {
    /// Nothing was done.
    pub(super) const NOTHING: Self = Self {
        served: 0,
        locks: GivenBack::new(),
        kept: Returned::NOTHING,
        heap: Amount { bytes: 0, objects: 0 },
        cut_short: false,
    };
}

static RING: Ring<Oops, RECORDS> = Ring::new(Oops::BLANK);

/// Notes everything about the fault, without a lock, and gives the record's number.
pub(super) fn take(fault: &Judged, frame: &TrapFrame, place: Place, fate: Fate) -> u64 {
    match RING.begin() {
        Ok(record) => {
            let number = record.number();
            record.fill(|oops| oops.note(fault, frame, place, (fate, number)))
        }
        // Nobody can print it, but its fate is what matters. It is counted as lost.
        Err(full) => full.number,
    }
}

impl Oops {
    /// No fault: zero from end to end, so that the ring takes no place in the image.
    const BLANK: Self = Self {
        fault: StackFault::BLANK,
        area: AreaFault::NONE,
        frame: TrapFrame::BLANK,
        code: CodeBytes::NONE,
        trace: Trace::empty(),
        place: Place::Emergency,
        fate: Fate::Killed,
        task: 0,
        preempt_count: 0,
        irq_depth: 0,
        vital: 0,
        locks: HeldNames::NONE,
        own_stack: VirtRange::EMPTY,
        number: 0,
    };

    /// Writes all of it, where it is kept: it is much to copy. What was there is of another fault.
    fn note(&mut self, judged: &Judged, frame: &TrapFrame, place: Place, (fate, number): (Fate, u64)) {
        // Every field, so that none that is added is forgotten.
        let Self {
            fault,
            area,
            frame: to_frame,
            code,
            trace: calls,
            place: to_place,
            fate: to_fate,
            task,
            preempt_count,
            irq_depth,
            vital,
            locks,
            own_stack,
            number: to_number,
        } = self;
        let (stack, block) = (place.stack(), percpu::this_cpu());
        (*fault, *area) = (judged.fault, judged.area);
        *to_frame = *frame;
        code.take(frame.instruction());
        reached(Step::Walking);
        // The stack of whoever was there, which is mapped: what the fault was about may not be.
        trace::take(calls, frame, stack, place.interrupted());
        reached(Step::Walked);
        (*to_place, *to_fate, *to_number) = (place, fate, number);
        *task = sched::current_if_any().map_or(0, |task| task.id());
        (*preempt_count, *irq_depth, *vital) = (block.preempt_count(), block.irq_depth(), percpu::vital());
        place.name_locks(locks);
        *own_stack = if place == Place::Task { stack } else { VirtRange::EMPTY };
    }
}

/// Prints record `number` on `console`, and what was done about it, unless it was printed before.
pub(super) fn print(number: u64, aftermath: &Aftermath, console: &mut Console) {
    if let Some(claim) = RING.claim(number) {
        text::print(&claim, aftermath, in_full(), console);
    }
}

/// All records of the ring, the oldest first.
fn records() -> impl Iterator<Item = RingRecord<Oops>> {
    core::iter::successors(RING.next_after(0), |record| RING.next_after(record.number))
}

/// Prints what the task or the idle task of record `number` has left unprinted before it.
pub(super) fn print_earlier(number: u64, console: &mut Console) {
    let Some(oops) = number.checked_sub(1).and_then(|before| RING.next_after(before)) else { return };
    let same = |earlier: &RingRecord<Oops>| {
        let (a, b) = (&earlier.value, &oops.value);
        a.task == b.task && a.place == b.place && (a.task != 0 || a.fault.cpu == b.fault.cpu)
    };
    let unprinted = |earlier: &RingRecord<Oops>| earlier.number < number && earlier.state == PrintState::Unprinted;
    records().filter(|earlier| unprinted(earlier) && same(earlier)).for_each(|earlier| {
        print(earlier.number, &Aftermath::NOTHING, console);
    });
}

/// Prints the reports of abandoned handlers that found no place with the reporter.
pub(super) fn print_abandoned(console: &mut Console) {
    let left =
        |record: &RingRecord<Oops>| record.state == PrintState::Unprinted && record.value.fate == Fate::Abandoned;
    records().filter(left).for_each(|record| print(record.number, &Aftermath::NOTHING, console));
}

/// Prints the records that nobody has printed, but for record `number`: the machine is being stopped. What another CPU was printing
/// when it was stopped is printed again.
pub(super) fn print_others(number: u64, console: &mut Console) {
    for record in records().filter(|record| record.number != number) {
        match record.state {
            PrintState::Unprinted => print(record.number, &Aftermath::NOTHING, console),
            PrintState::Printing => {
                writeln!(console, "(whoever printed report {} was stopped; again:)", record.number).ok();
                text::print(&record.value, &Aftermath::NOTHING, true, console);
            }
            _ => {}
        }
    }
}

/// The last reports, the oldest first, for a program that reads them.
pub(crate) fn all() -> Result<Vec<u8>, OutOfHeap> {
    let mut out = Text::default();
    for oops in records() {
        text::write_again(&oops.value, &mut out).map_err(|_| OutOfHeap)?;
    }
    Ok(out.into_bytes())
}

/// How many reports a second are printed in full. The others are a few lines: a storm of faults must not keep the machine from
/// everything else. What is left out stays in the ring.
const IN_FULL: u32 = 20;

static SECOND: AtomicU64 = AtomicU64::new(0);
static PRINTED: AtomicU32 = AtomicU32::new(0);

/// Lets as many reports be printed in full as at the beginning of a second. For crash scripts: each is a storm of its own.
pub(crate) fn renew_budget() {
    PRINTED.store(0, Ordering::Relaxed);
}

/// Whether this report is one of those that are printed in full.
fn in_full() -> bool {
    let second = sched::ticks() / sched::TICKS_PER_SECOND;
    if SECOND.swap(second, Ordering::Relaxed) != second {
        PRINTED.store(0, Ordering::Relaxed);
    }
    PRINTED.fetch_add(1, Ordering::Relaxed) < IN_FULL
}

/// How many faults were recorded.
pub(crate) fn count() -> usize {
    RING.begun() as usize
}

/// How many records were overwritten before anybody had printed them.
pub(crate) fn lost() -> usize {
    RING.lost() as usize
}

/// The last record, for a script that is the only one to provoke something.
pub(crate) fn last() -> Option<Oops> {
    RING.next_after(RING.begun().checked_sub(1)?).map(|record| record.value)
}

/// How many frames the trace of the last record has.
pub(crate) fn last_frames() -> usize {
    last().map_or(0, |oops| oops.trace.frames())
}

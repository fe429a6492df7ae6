//! The overflow path: from the double fault to one dead task and a machine that goes on.
//!
//! ```text
//!   push below the bottom ──> #PF cannot be pushed ──> #DF, on its own stack
//!     judge    the areas say what it was, from CR2 and the saved stack pointer     (no lock, no allocation: INV-FAULT)
//!     record   the fault, the registers, the trace, into a ring                    (the stack above the bottom is intact)
//!     rewind   CR2 cleared, the #DF stack released, and on to the *top* of the dead task's stack
//!     report   from the record, as the dying task, with interrupts on
//!     die      the process ends as by SIGSEGV; the stack is handed over like any other
//! ```
//!
//! A stray access to a guard arrives as #PF on a healthy stack and takes the same way from `judge` on. Nothing is printed
//! before the task's fate is sealed, so a fault is reported once (INV-ONCE) whatever happens to the report.
//!
//! Where nobody can be killed (an interrupt handler, idle, a vital section) the machine stops in order and says so. The locks that
//! the dead task held are given back first of all, poisoned (`sync`).

use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicUsize, Ordering};

use vmstack::{FaultContext, StackFault, Verdict, VirtAddr, VirtRange};

use crate::arch::frame::TrapFrame;
use crate::arch::gdt::{self, Ist};
use crate::arch::{cpu, percpu, trap};
use crate::console::Console;
use crate::hooks;
use crate::interrupts;
use crate::mm::heap;
use crate::process::{self, End, signal};
use crate::stacks::{AREAS, TASKS};
use crate::symbols::Code;
use crate::sync;
use crate::task::sched;
use crate::trace::Trace;

/// How many records there are: more than CPUs that can be in the middle of one.
const RECORDS: usize = 128;
/// A present page: the fault was against its rights.
const PROTECTION: u64 = 1;

/// What is remembered of a fault until it is printed.
#[derive(Clone, Copy, Debug)]
struct Oops {
    fault: StackFault,
    frame: TrapFrame,
    trace: Trace,
    number: usize,
}

struct Ring([UnsafeCell<Option<Oops>>; RECORDS]);

// SAFETY: a record belongs to the CPU that took its number, which prints it before it turns interrupts on or does anything else;
// numbers are handed out once, and a lap of the ring is longer than the number of CPUs.
unsafe impl Sync for Ring {}

static RING: Ring = Ring([const { UnsafeCell::new(None) }; RECORDS]);
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// A page fault in the kernel.
pub(crate) fn kernel_page_fault(frame: &TrapFrame, address: VirtAddr) {
    match judge(frame, address) {
        Verdict::Resume => {}
        Verdict::Kill(fault) => kill(&fault, frame),
        Verdict::Stop(fault) => stop_for(&fault, frame),
        _ => stop("a page fault in the kernel", frame, address),
    }
}

/// A double fault: an overflow if an area says so, and otherwise the end.
pub(crate) fn double_fault(frame: &TrapFrame, address: VirtAddr) -> ! {
    match judge(frame, address) {
        Verdict::Kill(fault) => kill(&fault, frame),
        Verdict::Stop(fault) => stop_for(&fault, frame),
        _ => stop("a double fault", frame, address),
    }
}

/// Asks each area.
fn judge(frame: &TrapFrame, address: VirtAddr) -> Verdict {
    let context = FaultContext::new(percpu::cpu_number(), frame.instruction())
        .protection(frame.error & PROTECTION != 0)
        .indispensable(!somebody_can_be_killed());
    let verdicts = AREAS.iter().map(|area| area.on_fault(address, frame.stack_pointer(), &context));
    verdicts.into_iter().find(|verdict| *verdict != Verdict::NotOurs).unwrap_or(Verdict::NotOurs)
}

/// Whether the current code is a task's own, and not in a section on whose end the machine depends.
fn somebody_can_be_killed() -> bool {
    let block = percpu::this_cpu();
    let task = sched::current_if_any();
    block.irq_depth() == 0 && percpu::vital() == 0 && task.is_some_and(|task| !task.is_idle())
}

/// Records the fault and kills the current task for it.
fn kill(fault: &StackFault, frame: &TrapFrame) -> ! {
    let Some(task) = sched::current_if_any() else { stop_for(fault, frame) };
    let (bottom, top) = task.stack_bounds();
    // One that died before and overflowed on its way out, or that has given its stack away, cannot be helped.
    if bottom == top || !task.start_dying() {
        stop_for(fault, frame);
    }
    let number = record(fault, frame);
    cpu::write_cr2(VirtAddr::default());
    let block = percpu::this_cpu();
    if gdt::ist_busy(block, Ist::DoubleFault) {
        // SAFETY: this is the #DF handler, which leaves its stack for good in the next line but one, interrupts off until then.
        unsafe { gdt::release_ist(Ist::DoubleFault) };
    }
    // SAFETY: (1) the top of the task's own stack: it is mapped, and whatever ran on it will not go on; (2) nothing of the
    // current stack is needed.
    unsafe { trap::run_on_stack(top, die, number) }
}

/// Notes everything about the fault, without a lock.
///
/// The trace is of the current task's stack, which is mapped: what the fault was about may not be.
fn record(fault: &StackFault, frame: &TrapFrame) -> usize {
    let number = TAKEN.fetch_add(1, Ordering::Relaxed);
    let trace = Trace::of(frame, current_stack());
    let record = RING.0[number % RECORDS].get();
    // SAFETY: the number is this CPU's alone (see `Ring`).
    unsafe { *record = Some(Oops { fault: *fault, frame: *frame, trace, number: number + 1 }) };
    number
}

/// The stack of the current task; nothing if there is none.
fn current_stack() -> VirtRange {
    let bounds = sched::current_if_any().map(|task| task.stack_bounds());
    let range = bounds.and_then(|(bottom, top)| VirtRange::new(bottom, top.distance(bottom)));
    range.unwrap_or(VirtRange::EMPTY)
}

fn recorded(number: usize) -> Option<&'static Oops> {
    // SAFETY: the record was written by this CPU or by this task, and is not written again while it is printed (see `Ring`).
    unsafe { (*RING.0[number % RECORDS].get()).as_ref() }
}

/// The dying task, on the empty stack, with interrupts off: serves what was lost, reports, and ends its process.
///
/// Interrupts stay off until the record was printed: it belongs to this CPU until then.
extern "C" fn die(number: usize) -> ! {
    let task = sched::current();
    let id = task.id();
    // What the task was doing is over: its sections, and the locks that it held or was taking.
    percpu::this_cpu().set_preempt_count(0);
    // SAFETY: the task goes on here, on its empty stack, and nowhere else.
    let given_back = unsafe { sync::current::give_back_task(&task) };
    let lost = heap::count_lost(&task);
    // An interrupt that was being delivered when the stack ended is in service, and its handler never ran.
    let served = interrupts::serve_undelivered();
    if let Some(oops) = recorded(number) {
        let mut console = Console::take();
        write!(console, "{oops}").ok();
        if served != 0 {
            writeln!(console, "note: {served} interrupts that were being delivered were served").ok();
        }
        if !given_back.is_empty() {
            writeln!(console, "note: {given_back}").ok();
        }
        if lost.bytes != 0 {
            writeln!(console, "note: its frames may have owned {} bytes of the heap, lost", lost.bytes).ok();
        }
        writeln!(console, "note: pid {id} is killed; everything else goes on").ok();
    }
    // SAFETY: what the kernel was in the middle of is over, and its locks were given back.
    unsafe { cpu::enable_interrupts() };
    process::exit_current(End::Killed(signal::SEGV))
}

/// Stops the machine for a fault that nobody can be killed for.
fn stop_for(fault: &StackFault, frame: &TrapFrame) -> ! {
    let number = record(fault, frame);
    hooks::stop_machine();
    let mut console = Console::take();
    if let Some(oops) = recorded(number) {
        write!(console, "{oops}").ok();
    }
    writeln!(console, "Kernel panic: nobody can be killed for this fault; the machine stops in order").ok();
    cpu::exit(17)
}

/// Stops the machine because of `what`.
pub(crate) fn stop(what: &str, frame: &TrapFrame, address: VirtAddr) -> ! {
    hooks::stop_machine();
    let mut console = Console::take();
    let cpu = percpu::cpu_number();
    writeln!(console, "BUG: {what}, cpu {cpu}, address {address}, at {}", Code(frame.instruction())).ok();
    writeln!(console, "{frame:?}").ok();
    write!(console, "{}", Trace::of(frame, current_stack())).ok();
    writeln!(console, "Kernel panic: {what}; the machine stops in order").ok();
    cpu::exit(17)
}

/// How many faults were recorded.
pub(crate) fn count() -> usize {
    TAKEN.load(Ordering::Relaxed)
}

impl fmt::Display for Oops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", TASKS.report(&self.fault))?;
        writeln!(f, "Oops: stack guard page [#{}] at {}", self.number, Code(self.frame.instruction()))?;
        writeln!(f, "{:?}", self.frame)?;
        write!(f, "{}", self.trace)?;
        writeln!(f, "---[ end trace {:016x} ]---", self.number)
    }
}

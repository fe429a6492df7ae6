//! The overflow path: from the fault to one dead task, or one abandoned handler, and a machine that goes on.
//!
//! ```text
//!   push below the bottom ──> #PF cannot be pushed ──> #DF, on its own stack
//!     judge    the areas say what it was, from CR2 and the saved stack pointer     (no lock, no allocation: INV-FAULT)
//!     place    where the CPU was: a task, idle, an interrupt handler, an NMI       (`place.rs`)
//!     record   the fault, the registers, the code, the trace, into a ring          (`record.rs`)
//!     leave    CR2 cleared, the #DF stack released, and on to a stack that nobody needs any more:
//!
//!       a task                  the *top* of its own stack: locks given back, lost interrupts served, the report, the end
//!       the idle task           the top of its own stack: the same, and idling begins anew
//!       an interrupt handler    the top of the interrupt stack: its interrupt is ended and its source masked; the report
//!                               is left to the reporter; the interrupted task goes on
//!       an NMI handler          nothing: the report is left to the reporter; whatever it interrupted goes on
//!       anything else           the machine stops in order, and says so
//! ```
//!
//! A stray access to a guard arrives as #PF, often on a healthy stack; it is judged on the #DF stack all the same, for an access
//! just below a stack that is nearly used up arrives so too. One in the range of the vmalloc is judged behind the stacks (`area.rs`). Nothing is printed
//! before the fate is sealed, so a fault is reported once (INV-ONCE) whatever happens to the report.

use core::fmt::Write;

use vmstack::{FaultContext, StackFault, Verdict, VirtAddr};

use crate::arch::frame::TrapFrame;
use crate::arch::{cpu, cut, percpu, provoke, trap};
use crate::console::{self, Console};
use crate::mm::heap;
use crate::process::{self, End, signal};
use crate::stacks::{AREAS, TASK_STACK};
use crate::symbols::Code;
use crate::sync::rcu;
use crate::task::sched;
use crate::{disk, hooks, interrupts, sync, trace};

mod area;
pub(crate) mod marks;
mod place;
mod record;
mod reporter;
mod text;

use area::AreaFault;
use marks::{Step, reached};
use place::Place;
use record::{Aftermath, Fate};

pub(crate) use record::{all, count, last, last_frames, lost, renew_budget};
pub(crate) use reporter::{print_left, start as start_reporter};

/// A present page: the fault was against its rights.
const PROTECTION: u64 = 1;

/// A page fault in the kernel.
pub(crate) fn kernel_page_fault(frame: &TrapFrame, address: VirtAddr) {
    let place = Place::of_this_cpu();
    match judge(frame, address, place) {
        Verdict::Resume => {}
        Verdict::Kill(fault) => end(&Judged::of_stack(fault), frame, place),
        Verdict::Stop(fault) => stop_for(&Judged::of_stack(fault), frame, place),
        Verdict::NotOurs => match judge_area(frame, address) {
            Some(fault) if place.is_indispensable() => stop_for(&fault, frame, place),
            Some(fault) => end(&fault, frame, place),
            None => stop("a page fault in the kernel", frame, address),
        },
        _ => stop("a page fault in the kernel", frame, address),
    }
}

/// A double fault: an overflow if an area says so, and otherwise the end.
pub(crate) fn double_fault(frame: &TrapFrame, address: VirtAddr) -> ! {
    reached(Step::Entered);
    let place = Place::of_this_cpu();
    let verdict = judge(frame, address, place);
    reached(Step::Judged);
    match verdict {
        Verdict::Kill(fault) => end(&Judged::of_stack(fault), frame, place),
        Verdict::Stop(fault) => stop_for(&Judged::of_stack(fault), frame, place),
        _ => stop("a double fault", frame, address),
    }
}

/// A fault in the handler of a fault: nobody is ended for it, whatever it was.
pub(crate) fn fault_in_handler(frame: &TrapFrame, address: VirtAddr) -> ! {
    provoke::fault_if_asked();
    match judge(frame, address, Place::Emergency) {
        Verdict::Kill(fault) | Verdict::Stop(fault) => stop_for(&Judged::of_stack(fault), frame, Place::Emergency),
        _ => stop("a fault in a fault handler", frame, address),
    }
}

/// What a fault was about: a stack, or an area of the vmalloc.
#[derive(Clone, Copy, Debug)]
struct Judged {
    /// Of a stack; of an area only the moment.
    fault: StackFault,
    /// Zero for a stack.
    area: AreaFault,
}

impl Judged {
    const fn of_stack(fault: StackFault) -> Self {
        Self { fault, area: AreaFault::NONE }
    }
}

/// Asks the vmalloc, for an address of no stack's.
fn judge_area(frame: &TrapFrame, address: VirtAddr) -> Option<Judged> {
    let area = AreaFault::at(address)?;
    let mut fault = StackFault::BLANK;
    (fault.cpu, fault.address) = (percpu::cpu_number(), address);
    (fault.stack_pointer, fault.instruction) = (frame.stack_pointer(), frame.instruction());
    Some(Judged { fault, area })
}

/// Asks each area.
fn judge(frame: &TrapFrame, address: VirtAddr, place: Place) -> Verdict {
    let context = FaultContext::new(percpu::cpu_number(), frame.instruction())
        .protection(frame.error & PROTECTION != 0)
        .indispensable(place.is_indispensable());
    for area in &AREAS {
        match area.on_fault(address, frame.stack_pointer(), &context) {
            Verdict::NotOurs => {}
            verdict => return verdict,
        }
    }
    Verdict::NotOurs
}

/// Ends what made the fault, and nothing else (INV-ALONE).
fn end(fault: &Judged, frame: &TrapFrame, place: Place) -> ! {
    match place {
        Place::Task | Place::Idle => kill(fault, frame, place),
        Place::Interrupt => {
            let number = record::take(fault, frame, place, Fate::Abandoned);
            let top = percpu::this_cpu().irq_stack_top();
            // SAFETY: (1) the interrupt stack: whatever ran there is given up, handlers that were interrupted by others
            // included; (2) nothing of the current stack is needed.
            unsafe { leave_for(top, abandon_interrupt, number) }
        }
        Place::Nmi => {
            let number = record::take(fault, frame, place, Fate::Abandoned);
            // SAFETY: the handler is given up.
            let locks = unsafe { sync::give_back_emergencies() };
            reporter::leave(number, &Aftermath { locks, ..Aftermath::NOTHING });
            // The message to stop may be among those that were dropped meanwhile.
            hooks::heed_stop();
            // SAFETY: (1) the NMI's handler has begun and not ended, says its flag; (2) it holds no lock and has nothing that
            // others know of: `hooks::nmi`; (3) this is a fault handler's stack, or the NMI handler's own.
            unsafe { trap::abandon_nmi() }
        }
        Place::Boot | Place::Emergency => stop_for(fault, frame, place),
    }
}

/// Leaves the stack that the fault is handled on, for good: `run(number)` goes on on the stack that ends at `top`.
///
/// # Safety
///
/// (1) The stack that ends at `top` is mapped, and whatever ran on it will not go on; (2) nothing of the current stack is needed.
unsafe fn leave_for(top: VirtAddr, run: extern "C" fn(usize) -> !, number: u64) -> ! {
    cpu::write_cr2(VirtAddr::default());
    // SAFETY: the caller's promises; this is the handler that has the #DF stack.
    unsafe { trap::run_on_stack(top, run, number as usize) }
}

/// Records the fault and kills the current task for it; the idle task begins anew.
fn kill(fault: &Judged, frame: &TrapFrame, place: Place) -> ! {
    let Some(task) = sched::current_if_any() else { stop_for(fault, frame, place) };
    let (bottom, top) = task.stack_bounds();
    if bottom == top {
        // It has given its stack away already.
        stop_for(fault, frame, place);
    }
    let (fate, run): (Fate, extern "C" fn(usize) -> !) = match (place, task.die()) {
        (Place::Idle, _) => (Fate::Replaced, idle_anew),
        (_, 1) => (Fate::Killed, die),
        // It overflowed again on its way out: it goes on behind that.
        (_, 2..=process::MOST_DEATHS) => (Fate::Killed, die_in_steps),
        _ => stop_for(fault, frame, place),
    };
    let number = record::take(fault, frame, place, fate);
    reached(Step::Recorded);
    // SAFETY: (1) the top of the task's own stack: it is mapped, and whatever ran on it will not go on; (2) nothing of the
    // current stack is needed.
    unsafe { leave_for(top, run, number) }
}

/// What is done first for every task that was cut short, with interrupts off: the locks that it held are given back, and interrupts that it
/// swallowed are served.
fn clean_up() -> Aftermath {
    let task = sched::current();
    // What the task was doing is over: its sections, and the locks that it held or was taking.
    percpu::this_cpu().set_preempt_count(0);
    rcu::awake();
    // SAFETY: the task goes on here, on its empty stack, and nowhere else.
    let locks = unsafe { sync::give_back_task(&task) };
    // An interrupt that was being delivered when the stack ended is in service, and its handler never ran.
    let served = interrupts::serve_undelivered();
    Aftermath { served, locks, ..Aftermath::NOTHING }
}

/// Then what it kept goes. That may be long, as for a memory that was half copied: where the task is any other than idle, interrupts are on.
fn give_up(aftermath: Aftermath) -> Aftermath {
    let task = sched::current();
    // SAFETY: as in `clean_up`.
    let kept = unsafe { task.kept().give_back() };
    let heap = heap::count_lost(&task);
    Aftermath { kept, heap, ..aftermath }
}

/// Prints report `number`; if somebody holds the console for too long the report stays in the ring, for the reporter, and that is
/// said. A stack that is too small to print on leaves it to the reporter at once.
fn report(number: usize, aftermath: &Aftermath) {
    let (bottom, top) = sched::current().stack_bounds();
    if top.distance(bottom) < TASK_STACK {
        return reporter::leave(number as u64, aftermath);
    }
    match Console::take_soon() {
        Some(mut console) => {
            // If it died before, and of cleaning up, nobody has told of that yet.
            record::print_earlier(number as u64, &mut console);
            record::print(number as u64, aftermath, &mut console);
        }
        None => {
            reporter::leave(number as u64, aftermath);
            console::say_in_between("\n[the console is held: a report stays in the ring]\n");
        }
    }
}

/// The dying task, on the empty stack, with interrupts off.
extern "C" fn die(number: usize) -> ! {
    reached(Step::Dying);
    let cleaned = clean_up();
    // SAFETY: the kernel was left in the middle of a call that holds nothing any more.
    unsafe { cpu::enable_interrupts() };
    // Before the stack is used for more: a device may have a part of it.
    disk::leave();
    let aftermath = give_up(cleaned);
    reached(Step::CleanedUp);
    report(number, &aftermath);
    reached(Step::Printed);
    cut::dies(sched::current().stack_bounds());
    reporter::replace_if_dead();
    rcu::replace_if_dead();
    process::exit_current(End::Killed(signal::SEGV))
}

/// A task that overflowed while it was dying: its process ends all the same, and some of what is not given back by now may be lost.
extern "C" fn die_in_steps(number: usize) -> ! {
    let cleaned = clean_up();
    // SAFETY: as above.
    unsafe { cpu::enable_interrupts() };
    disk::leave();
    report(number, &Aftermath { cut_short: true, ..give_up(cleaned) });
    cut::dies(sched::current().stack_bounds());
    process::end_in_steps(End::Killed(signal::SEGV))
}

/// The idle task, on its empty stack, with interrupts off.
extern "C" fn idle_anew(number: usize) -> ! {
    report(number, &give_up(clean_up()));
    // SAFETY: as above.
    unsafe { cpu::enable_interrupts() };
    sched::idle()
}

/// The handlers of this CPU's interrupts are given up, on the empty interrupt stack, with interrupts off.
extern "C" fn abandon_interrupt(number: usize) -> ! {
    // SAFETY: (1) the handlers are given up: this stack was theirs.
    let locks = unsafe { sync::give_back_handlers() };
    interrupts::abandon();
    reporter::leave(number as u64, &Aftermath { locks, ..Aftermath::NOTHING });
    // SAFETY: (1) a handler was running, says `irq_depth`; (2) what it held was given back; (3) the interrupt stack is left.
    unsafe { trap::abandon_interrupt() }
}

/// Stops the machine for a fault that nobody can be killed for.
fn stop_for(fault: &Judged, frame: &TrapFrame, place: Place) -> ! {
    let number = record::take(fault, frame, place, Fate::Stopped);
    hooks::stop_machine();
    let mut console = Console::take();
    record::print_others(number, &mut console);
    record::print(number, &Aftermath::NOTHING, &mut console);
    let why = place.why_nobody();
    writeln!(console, "Kernel panic: {why}; the machine stops in order").ok();
    cpu::exit(17)
}

/// Stops the machine because of `what`, which was found out at a healthy moment.
pub(crate) fn stop_in_order(what: core::fmt::Arguments<'_>) -> ! {
    hooks::stop_machine();
    writeln!(Console::take(), "Kernel panic: {what}; the machine stops in order").ok();
    cpu::exit(17)
}

/// Stops the machine because of `what`.
pub(crate) fn stop(what: &str, frame: &TrapFrame, address: VirtAddr) -> ! {
    hooks::stop_machine();
    let mut console = Console::take();
    let cpu = percpu::cpu_number();
    writeln!(console, "BUG: {what}, cpu {cpu}, address {address}, at {}", Code(frame.instruction())).ok();
    writeln!(console, "{frame:?}").ok();
    let calls = trace::of(frame, Place::of_this_cpu().stack());
    write!(console, "{}", calls.text(&trace::name)).ok();
    writeln!(console, "Kernel panic: {what}; the machine stops in order").ok();
    cpu::exit(17)
}

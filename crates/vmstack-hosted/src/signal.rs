//! The fault handler: SIGSEGV and SIGBUS, on an alternate stack, as a kernel handles a page fault on its emergency stack.
//!
//! ```text
//!   a fault ─> whose address is it? ─ none of ours ─────────────────────────────> the handler before us (`chain`)
//!                    │ a machine's
//!                    v
//!              on_fault ─ Resume ─> return
//!                    │ Kill                                                     │ Stop
//!                    v                                                          v
//!              which task has this stack pointer? ─ none ─> announce, pass on   announce, die
//!                    │ one
//!                    v
//!              record and trace into the CPU's state; the return from the signal goes to the executor
//! ```
//!
//! A fault in the range of a vmalloc goes the same way, with the difference that `find` judges it: nobody may resume there.
//!
//! The killed task is never resumed. Nothing is printed and nothing is given back here: the executor does that, on its own
//! stack, from the record. Context: the fault path (INV-FAULT): no lock, no allocation, only memory that cannot fault.
//! On a thread that is no CPU the handler runs on whatever alternate stack that thread has, so it stays small until the
//! fault turns out to be ours.

use core::fmt::{self, Write};

use vmstack::{FaultContext, Platform, StackArea, Verdict, VirtAddr};
use vmstack_vmalloc::Vmalloc;

use crate::arch::Interrupted;
use crate::chain;
use crate::mapped::Mapped;
use crate::paged::Paged;
use crate::platform::Hosted;
use crate::registry;
use crate::stray::Stray;
use crate::sys::Errno;
use crate::task::{Cause, Death};
use crate::thread::{self, CpuState};
use crate::trace::{Position, Trace};

const PASSED_ON: &str = "no task has this stack pointer; passed on as a fault of the process";

/// Installs the handler, once in a process.
pub(crate) fn install() -> Result<(), Errno> {
    chain::install(on_signal)
}

extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: where this thread keeps it.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the interrupted code may be about to read it, so it gets it back as it was.
    let errno = unsafe { place.read() };
    // SAFETY: the kernel hands the handler a valid record, and nobody else has it.
    let record = unsafe { &*info };
    // Zero and below are messages from processes, whatever address they claim.
    let is_fault = record.si_code > 0;
    if !is_fault || !handle(fault_address(record), context) {
        // SAFETY: these are this signal's arguments.
        unsafe { chain::pass_on(signal, info, context, is_fault) };
    }
    // SAFETY: this thread's own word.
    unsafe { place.write(errno) };
}

fn fault_address(record: &libc::siginfo_t) -> VirtAddr {
    // SAFETY: reads a word of the record, which for a fault is its address.
    let address = unsafe { record.si_addr() };
    VirtAddr::new(address.addr())
}

/// Handles a fault at `address` if it is one of ours. False: it is somebody else's.
fn handle(address: VirtAddr, context: *mut libc::c_void) -> bool {
    // The registers are looked at only when the address is ours.
    // SAFETY: the handler's third argument, and there is no other view of it while one of the two below looks.
    let interrupted = || unsafe { Interrupted::of(context) };
    let by_stacks = registry::STACKS.with_owner(address, |area| judge(area, address, &mut interrupted()));
    let by_areas = || registry::AREAS.with_owner(address, |areas| judge_stray(areas, address, &mut interrupted()));
    by_stacks.or_else(by_areas).unwrap_or(false)
}

fn judge(area: &StackArea<Hosted>, address: VirtAddr, interrupted: &mut Interrupted<'_>) -> bool {
    let context = FaultContext::new(area.platform().cpu(), interrupted.instruction())
        .protection(interrupted.is_protection())
        .indispensable(thread::is_inside());
    match area.on_fault(address, interrupted.stack_pointer(), &context) {
        Verdict::Resume => true,
        Verdict::Kill(fault) => match thread::running_at(interrupted.stack_pointer()) {
            Some(cpu) => kill(cpu, interrupted, |trace| Cause::Stack(Death { fault, trace })),
            None => announce(&area.report(&fault), PASSED_ON),
        },
        Verdict::Stop(fault) => stop(&area.report(&fault)),
        _ => false,
    }
}

/// A fault in the range of a vmalloc: whoever made it strayed.
fn judge_stray(areas: &Vmalloc<Paged<Mapped>>, address: VirtAddr, interrupted: &mut Interrupted<'_>) -> bool {
    let stray = Stray { address, found: areas.find(address), instruction: interrupted.instruction(), trace: None };
    match thread::running_at(interrupted.stack_pointer()) {
        _ if thread::is_inside() => stop(&stray),
        Some(cpu) => kill(cpu, interrupted, |trace| Cause::Area(Stray { trace: Some(trace), ..stray })),
        None => announce(&stray, PASSED_ON),
    }
}

fn kill(cpu: &CpuState, interrupted: &mut Interrupted<'_>, cause: impl FnOnce(Trace) -> Cause) -> bool {
    let Some(task) = cpu.task() else { return false };
    let position = Position {
        instruction: interrupted.instruction(),
        stack_pointer: interrupted.stack_pointer(),
        frame_pointer: interrupted.frame_pointer(),
    };
    // SAFETY: the stack of a running task is mapped, whole (INV-LIVE).
    let trace = unsafe { Trace::take(position, task.stack) };
    let (instruction, stack_pointer) = cpu.kill(cause(trace));
    interrupted.continue_at(instruction, stack_pointer);
    true
}

/// Says what happened, and lets the process die of it.
fn stop(what: &dyn fmt::Display) -> bool {
    chain::restore_default(libc::SIGSEGV);
    chain::restore_default(libc::SIGBUS);
    let _ = announce(what, "inside the library nobody can be killed: the process stops");
    true
}

/// Says what happened where nobody will report it later. Returns false: it was not dealt with.
fn announce(what: &dyn fmt::Display, why: &str) -> bool {
    let mut text = Text { bytes: [0; 1024], len: 0 };
    let _ = writeln!(text, "{what}\nvmstack: {why}");
    let bytes = text.bytes.get(..text.len).unwrap_or(&[]);
    // SAFETY: writes bytes of ours to a descriptor; if it is closed, nothing is written.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
    false
}

/// Text in a place of fixed size: what does not fit is cut.
struct Text {
    bytes: [u8; 1024],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..).unwrap_or(&mut []);
        for (place, byte) in room.iter_mut().zip(text.bytes()) {
            *place = byte;
            self.len += 1;
        }
        Ok(())
    }
}

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
//! The killed task is never resumed. Nothing is printed and nothing is given back here: the executor does that, on its own
//! stack, from the record. Context: the fault path (INV-FAULT): no lock, no allocation, only memory that cannot fault.
//! On a thread that is no CPU the handler runs on whatever alternate stack that thread has, so it stays small until the
//! fault turns out to be ours.

use core::fmt::{self, Write};

use vmstack::{FaultContext, Platform, StackArea, StackFault, Verdict, VirtAddr};

use crate::arch::Interrupted;
use crate::chain;
use crate::platform::Hosted;
use crate::registry;
use crate::sys::Errno;
use crate::task::Death;
use crate::thread::{self, CpuState};
use crate::trace::{Position, Trace};

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
    registry::with_owner(address, |area| {
        // SAFETY: the handler's third argument, and there is no other view of it.
        let mut interrupted = unsafe { Interrupted::of(context) };
        judge(area, address, &mut interrupted)
    })
    .unwrap_or(false)
}

fn judge(area: &StackArea<Hosted>, address: VirtAddr, interrupted: &mut Interrupted<'_>) -> bool {
    let context = FaultContext::new(area.platform().cpu(), interrupted.instruction())
        .protection(interrupted.is_protection())
        .indispensable(thread::is_inside());
    match area.on_fault(address, interrupted.stack_pointer(), &context) {
        Verdict::Resume => true,
        Verdict::Kill(fault) => match thread::running_at(interrupted.stack_pointer()) {
            Some(cpu) => kill(cpu, fault, interrupted),
            None => announce(area, &fault, "no task has this stack pointer; passed on as a fault of the process"),
        },
        Verdict::Stop(fault) => {
            chain::restore_default(libc::SIGSEGV);
            chain::restore_default(libc::SIGBUS);
            let _ = announce(area, &fault, "inside the library nobody can be killed: the process stops");
            true
        }
        _ => false,
    }
}

fn kill(cpu: &CpuState, fault: StackFault, interrupted: &mut Interrupted<'_>) -> bool {
    let Some(task) = cpu.task() else { return false };
    let position = Position {
        instruction: fault.instruction,
        stack_pointer: fault.stack_pointer,
        frame_pointer: interrupted.frame_pointer(),
    };
    // SAFETY: the stack of a running task is mapped, whole (INV-LIVE).
    let trace = unsafe { Trace::take(position, task.stack) };
    let (instruction, stack_pointer) = cpu.kill(Death { fault, trace });
    interrupted.continue_at(instruction, stack_pointer);
    true
}

/// Says what happened where nobody will report it later. Returns false: it was not dealt with.
fn announce(area: &StackArea<Hosted>, fault: &StackFault, why: &str) -> bool {
    let mut text = Text { bytes: [0; 1024], len: 0 };
    let _ = writeln!(text, "{}\nvmstack: {why}", area.report(fault));
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

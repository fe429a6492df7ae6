//! The sweep: N bytes are left on the stack when something happens that needs some, for every N.
//!
//! ```text
//!   bottom                                       top
//!   |<-- N -->|                                   |
//!   |         ^ rsp, when it happens              |      N = 0, 8, ... 4,088
//! ```
//!
//! | kind | what happens |
//! | --- | --- |
//! | `call` | a call of a leaf |
//! | `exception` | a breakpoint, and its handler |
//! | `interrupt` | a message to this very CPU, and its handler, which has a stack of its own |
//! | `nmi` | the same, not maskable; its frame is not pushed here at all |
//! | `syscall` | a call from user mode that enters there, all of it |
//!
//! A victim each. It says so when the event is behind it; the number of reports says whether it was caught. One of the two, and
//! once, is what must come of it: anything else is a word of its own in the fact.
//!
//! Of the fifth kind the victims are processes: the program asks for its next call to enter there, makes it, and says that it is
//! back (`crash --syscalls`). Which N is next is known here.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use vmstack::VirtAddr;

use super::Provocation;
use super::script::{PROGRAM, Script, Victim, start_program, wait_for_process};
use crate::arch::apic::{self, Message};
use crate::arch::provoke::{self, Alone};
use crate::interrupts::IPI;
use crate::task::flags::Flag;
use crate::task::sched;
use crate::{fact, oops, println};

/// The bytes that are left go up to here, exclusive: what a stack's bottom page has.
const END: usize = 4096;
/// From one run to the next, in bytes.
const STEP: usize = 8;

pub(super) static SCRIPTS: [Script; 1] = [Script { name: "OVERFLOW_AT_EVERY_OFFSET", run: sweep }];

/// What `crash --syscalls` asks for.
pub(super) static PROVOCATIONS: [Provocation; 3] = [
    Provocation { name: "SWEEP_MOVE_NEXT_CALL", act: move_next_call },
    Provocation { name: "SWEEP_IS_BACK", act: is_back },
    Provocation { name: "SWEEP_JUDGE", act: judge_call },
];

/// How many bytes are left in the current run.
static LEFT: AtomicUsize = AtomicUsize::new(0);
/// The event of the current run is behind its victim.
static COMPLETED: AtomicBool = AtomicBool::new(false);
/// How many reports there were before the current run.
static REPORTS: AtomicUsize = AtomicUsize::new(0);

/// What kernel tasks go through.
static EVENTS: [(&str, fn()); 4] = [("call", call), ("exception", exception), ("interrupt", interrupt), ("nmi", nmi)];

fn sweep(_: &str) {
    for (kind, event) in EVENTS {
        for left in (0..END).step_by(STEP) {
            begin(left);
            match Victim::start(event) {
                Some(victim) => {
                    victim.end();
                    judge(kind);
                }
                None => return,
            }
        }
    }
    begin(0);
    match start_program(&[PROGRAM, b"--syscalls"]) {
        Ok(process) => wait_for_process(&process),
        Err(error) => println!("no victims: {error:?}"),
    }
}

/// Begins a run.
fn begin(left: usize) {
    LEFT.store(left, Relaxed);
    COMPLETED.store(false, Relaxed);
    REPORTS.store(oops::count(), Relaxed);
}

/// Says what came of a run: its victim is dead, one way or the other.
fn judge(kind: &str) {
    let outcome = match (COMPLETED.load(Relaxed), oops::count() - REPORTS.load(Relaxed)) {
        (true, 0) => "completed",
        (false, 1) => "reported",
        (false, 0) => "neither",
        (true, _) => "both",
        (false, _) => "repeatedly",
    };
    let instruction = oops::last().filter(|_| outcome == "reported").map(|oops| oops.fault.instruction);
    fact!("sweep", "{kind} {} {outcome} {:#x}", LEFT.load(Relaxed), instruction.unwrap_or_default().get());
}

/// Where the stack pointer of the current task is to be.
fn place() -> VirtAddr {
    sched::current().stack_bounds().0.wrapping_add(LEFT.load(Relaxed))
}

fn call() {
    let alone = Alone::new();
    // SAFETY: in the bottom page of this task's stack, of which only the top one is in use.
    unsafe { provoke::call_at(&alone, place()) };
    COMPLETED.store(true, Relaxed);
}

fn exception() {
    let alone = Alone::new();
    // SAFETY: as in `call`.
    unsafe { provoke::exception_at(&alone, place()) };
    COMPLETED.store(true, Relaxed);
}

fn interrupt() {
    let alone = Alone::new();
    let Some(message) = apic::to_self(Message::Fixed(IPI.vector)) else { return };
    IPI.served().store(0, Relaxed);
    // SAFETY: as in `call`.
    unsafe { provoke::interrupt_at(&alone, place(), message, IPI.served()) };
    COMPLETED.store(IPI.served().load(Relaxed) == 1, Relaxed);
}

fn nmi() {
    let alone = Alone::new();
    // SAFETY: as in `call`.
    let came = unsafe { provoke::nmi_at(&alone, place()) };
    COMPLETED.store(came, Relaxed);
}

/// In a system call of the victim: its next one enters with as many bytes left as this run is about.
fn move_next_call() {
    // SAFETY: in the bottom page of this task's stack, and the program does what it has to.
    unsafe { provoke::move_next_entry(place()) };
    sched::current().raise(Flag::Provoked);
}

/// In a system call of the victim, entered as usual.
fn is_back() {
    COMPLETED.store(true, Relaxed);
}

/// In a system call of the victim's parent, which has waited for it: says what came of the run, and begins the next.
fn judge_call() {
    judge("syscall");
    begin(LEFT.load(Relaxed) + STEP);
}

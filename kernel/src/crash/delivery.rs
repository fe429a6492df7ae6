//! Interrupts whose frame does not fit on the stack that they interrupt.
//!
//! The APIC counts an interrupt as delivered when the CPU has taken its vector: before the frame is pushed. If the stack ends
//! under the frame, the handler never runs, the vector stays in service, and everything of its priority and below would be held
//! back for good. The kernel looks for that when it kills (`interrupts::serve_undelivered`). Here interrupts are raised one at a
//! time, each in a victim of its own with a few bytes left, and counted on both sides:
//!
//! | source | raised by |
//! | --- | --- |
//! | `ipi` | the victim's CPU, for itself |
//! | `ipi-from-another` | another CPU, when the victim says that it is ready; not on a machine with one |
//! | `message` | a device, by a message |
//! | `line` | a device, by a line that stays up until the device is told that it was heard |
//!
//! After each, once more with room enough: the source must still work. Both device sources are QEMU's `edu`; where it is not
//! plugged in, `fact interrupts.device 0` says so.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use vmstack::VirtAddr;

use super::handler;
use super::script::{Script, Victim};
use crate::arch::apic::{self, Message, Target};
use crate::arch::edu::{self, Edu};
use crate::arch::provoke::{self, Alone, Store};
use crate::interrupts::{self, IPI, LINE, MESSAGE, Source};
use crate::mm::tables;
use crate::stacks;
use crate::sync::{AnyLock, SpinLock};
use crate::task::sched;
use crate::{fact, println};

/// How many bytes are left: too few for what the hardware pushes (40 bytes, at a multiple of 16), and for the rest of the frame.
const TOO_FEW: [usize; 10] = [0, 8, 16, 32, 40, 48, 64, 104, 136, 160];
/// How many bytes are left when there is room.
const ENOUGH: usize = 8192;

pub(super) static SCRIPTS: [Script; 1] = [Script { name: "OVERFLOW_IN_INTERRUPT_DELIVERY", run: deliver }];

/// The device, if it is plugged in.
static DEVICE: SpinLock<Option<Edu>> = SpinLock::new("crash-device", None);
/// How many bytes are left in the current run.
static LEFT: AtomicUsize = AtomicUsize::new(0);
/// The victim waits for another CPU's interrupt.
static WAITING: AtomicU32 = AtomicU32::new(0);
/// The local APIC id of its CPU.
static WAITING_AT: AtomicU32 = AtomicU32::new(0);

/// The lock of the device.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &DEVICE
}

/// Looks for the device. Once, before anything is counted: its registers need page tables.
pub(super) fn prepare() {
    // SAFETY: (1) called once, and nobody else uses PCI; (2) a mapping of the kernel's that is never undone.
    let device = unsafe { Edu::find(|at, bytes| tables::map_device(at, bytes).ok()) };
    *DEVICE.lock_or_reset(|_| None) = device;
}

fn deliver(_: &str) {
    raise_all("ipi", &IPI, raise_ipi);
    if stacks::shootdown::others_are_up() {
        raise_all("ipi-from-another", &IPI, wait_for_ipi);
    }
    let device = DEVICE.lock_or_reset(|_| None).is_some();
    fact!("interrupts.device", "{}", u32::from(device));
    if device {
        raise_all("message", &MESSAGE, raise_message);
        raise_all("line", &LINE, raise_line);
    }
}

/// Raises interrupts of `source` where they do not fit, and one where it does, and says how many were served.
fn raise_all(name: &str, source: &Source, raise: fn()) {
    let mut served = 0;
    for left in TOO_FEW {
        let now = raise_one(source, left, raise);
        fact!("interrupts.run", "{name} {left} {now}");
        served += now;
    }
    fact!("interrupts", "{name} {} {served}", TOO_FEW.len());
    // Not while the console is held: this sleeps.
    let after = raise_one(source, ENOUGH, raise);
    fact!("interrupts", "{name}-after 1 {after}");
}

/// One victim, and how often the source was served by the time that it is gone.
fn raise_one(source: &Source, left: usize, raise: fn()) -> u32 {
    LEFT.store(left, Relaxed);
    WAITING.store(0, Relaxed);
    source.served().store(0, Relaxed);
    let sender = Victim::start(send_when_asked);
    match Victim::start(raise) {
        Some(victim) => victim.wait(),
        None => println!("an interrupt is not raised"),
    }
    // Nobody asks any more: it is let go.
    WAITING.store(NOBODY, Relaxed);
    if let Some(sender) = sender {
        sender.end();
    }
    source.served().load(Relaxed)
}

/// Where the stack pointer of the current task is to be.
fn place() -> VirtAddr {
    sched::current().stack_bounds().0.wrapping_add(LEFT.load(Relaxed))
}

/// Makes `store` where the frame of its interrupt does not fit, and waits until `source` was served.
fn make(alone: &Alone, store: Option<Store>, source: &'static Source) {
    match store {
        // SAFETY: in the lower half of this task's stack, of which only the topmost page is in use.
        Some(store) => unsafe { provoke::interrupt_at(alone, place(), store, source.served()) },
        None => println!("there is nothing that could raise {}", source.name),
    }
}

fn raise_ipi() {
    let alone = Alone::new();
    make(&alone, apic::to_self(Message::Fixed(IPI.vector)), &IPI);
}

fn raise_message() {
    let alone = Alone::new();
    if let Some(device) = DEVICE.lock_or_reset(|_| None).as_mut() {
        device.use_message(MESSAGE.vector, apic::id());
    }
    make(&alone, edu::raise(), &MESSAGE);
}

fn raise_line() {
    let alone = Alone::new();
    let line = DEVICE.lock_or_reset(|_| None).as_mut().map(|device| {
        device.use_line();
        device.line()
    });
    if line.is_some_and(|line| interrupts::route_line(line, LINE.vector, apic::id())) {
        make(&alone, edu::raise(), &LINE);
    }
}

/// An interrupt where there is no room for its frame, and whose handler overflows.
pub(super) fn overflow_after_overflow() {
    LEFT.store(0, Relaxed);
    let alone = Alone::new();
    handler::arm_this_cpu();
    make(&alone, apic::to_self(Message::Fixed(IPI.vector)), &IPI);
}

/// Raises the line once, where there is room. False if there is no device.
pub(super) fn raise_line_once() -> bool {
    if DEVICE.lock_or_reset(|_| None).is_none() {
        return false;
    }
    LEFT.store(ENOUGH, Relaxed);
    Victim::start(raise_line).is_some_and(|task| !task.end())
}

/// In [`WAITING`]: nobody will.
const NOBODY: u32 = 2;

fn wait_for_ipi() {
    let alone = Alone::new();
    WAITING_AT.store(apic::id(), Relaxed);
    make(&alone, Some(Store::to(&WAITING)), &IPI);
}

/// The task that sends the interrupt when a victim on another CPU waits for it. A victim lets nobody else onto its own CPU.
fn send_when_asked() {
    while WAITING.load(Relaxed) == 0 {
        sched::yield_now();
    }
    if WAITING.load(Relaxed) != NOBODY {
        let sent = apic::send(Target::One(WAITING_AT.load(Relaxed)), Message::Fixed(IPI.vector));
        if let Err(error) = sent {
            println!("no interrupt: {error}");
        }
    }
}

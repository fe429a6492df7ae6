//! Overflows of stacks that no task has: interrupt, NMI, idle.
//!
//! A handler does nothing unless a script has armed it; then it recurses until its own stack ends.

use core::sync::atomic::{AtomicU8, Ordering};

use super::script::{Script, Victim};
use super::{delivery, stack};
use crate::arch::apic::{self, Message, Target};
use crate::arch::percpu::{self, MAX_CPUS};
use crate::task::sched;
use crate::{fact, interrupts, oops, println};

pub(super) static SCRIPTS: [Script; 5] = [
    Script { name: "OVERFLOW_AFTER_OVERFLOW", run: after_overflow },
    Script { name: "OVERFLOW_ON_IRQ_STACK", run: on_irq_stack },
    Script { name: "OVERFLOW_ON_NMI_STACK", run: on_nmi_stack },
    Script { name: "OVERFLOW_IN_IDLE", run: in_idle },
    Script { name: "OVERFLOW_IN_INIT", run: in_init },
];

/// Where the next recursion is to happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Armed {
    No,
    Interrupt,
    Nmi,
    Idle,
}

static ARMED: [AtomicU8; MAX_CPUS] = [const { AtomicU8::new(Armed::No as u8) }; MAX_CPUS];

fn arm(cpu: usize, what: Armed) {
    ARMED[cpu].store(what as u8, Ordering::Release);
}

/// Goes off if this CPU is armed for `what`, once.
fn go_off(what: Armed) {
    let armed = &ARMED[percpu::cpu_number().index()];
    // Acquire: pairs with `arm`.
    if armed.compare_exchange(what as u8, Armed::No as u8, Ordering::Acquire, Ordering::Relaxed).is_ok() {
        stack::exhaust_stack();
    }
}

/// Called by the handler of the interrupt that is for this.
pub(crate) fn in_interrupt() {
    go_off(Armed::Interrupt);
}

/// Called by the NMI hook.
pub(crate) fn in_nmi() {
    go_off(Armed::Nmi);
}

/// Called by the idle task, each time round.
pub(crate) fn while_idle() {
    go_off(Armed::Idle);
}

/// How long a script waits for what it asked for, in ticks.
const PATIENCE: u64 = 2 * sched::TICKS_PER_SECOND;

/// Waits until `done`, or until patience ends.
fn wait_until(done: impl Fn() -> bool) -> bool {
    let end = sched::ticks() + PATIENCE;
    while !done() && sched::ticks() < end {
        sched::yield_now();
    }
    done()
}

/// Every CPU in turn gets a message whose handler overflows; this one by a message to itself. With the word `line`: a device's line. With
/// `storm`: many in a row.
fn on_irq_stack(word: &str) {
    match word {
        "line" => return on_line(),
        "storm" => return in_a_storm(),
        _ => {}
    }
    for cpu in 0..crate::boot::cpus() {
        provoke_on(cpu, Armed::Interrupt, Message::Fixed(interrupts::IPI.vector));
    }
}

/// How many in a row: more than the reporter has places for, and fewer than the ring has records.
const STORM: usize = 110;

/// One CPU's handler overflows again and again, while nobody can print a report.
fn in_a_storm() {
    let before = oops::count();
    // Nobody takes this CPU from it, and what is printed comes after.
    percpu::preempt_disable();
    let cpu = percpu::cpu_number().index();
    for _ in 0..STORM {
        arm(cpu, Armed::Interrupt);
        let sent = apic::send(Target::One(apic::id()), Message::Fixed(interrupts::IPI.vector));
        debug_assert!(sent.is_ok());
        while ARMED[cpu].load(Ordering::Relaxed) == Armed::Interrupt as u8 {
            core::hint::spin_loop();
        }
    }
    percpu::preempt_enable();
    oops::print_left();
    fact!("handler.storm", "{STORM} {}", oops::count() - before);
}

/// A device's line whose handler overflows is masked: it comes no more until it is let through again, and then it is served.
fn on_line() {
    let before = oops::count();
    (0..crate::boot::cpus()).for_each(|cpu| arm(cpu, Armed::Interrupt));
    interrupts::LINE.served().store(0, Ordering::Relaxed);
    if !delivery::raise_line_once() {
        (0..crate::boot::cpus()).for_each(|cpu| arm(cpu, Armed::No));
        return fact!("handler.line", "0 0 0");
    }
    let reported = wait_until(|| oops::count() > before);
    (0..crate::boot::cpus()).for_each(|cpu| arm(cpu, Armed::No));
    sched::sleep_until(sched::ticks() + 4);
    let masked = interrupts::LINE.served().load(Ordering::Relaxed);
    // The device has not been heard: its line is up still.
    interrupts::mask_line(false);
    let served = wait_until(|| interrupts::LINE.served().load(Ordering::Relaxed) > masked);
    oops::print_left();
    fact!("handler.line", "{} {masked} {}", usize::from(reported), usize::from(served));
}

/// As with interrupts.
fn on_nmi_stack(_: &str) {
    for cpu in 0..crate::boot::cpus() {
        provoke_on(cpu, Armed::Nmi, Message::Nmi);
    }
}

/// Makes CPU `cpu`'s handler overflow, and waits for the report. Then the same message again, for a handler that does nothing:
/// the CPU still takes it.
fn provoke_on(cpu: usize, what: Armed, message: Message) {
    let Some(block) = percpu::of(vmstack::Cpu::new(cpu as u32)) else { return };
    let before = oops::count();
    let served = || interrupts::IPI.served().load(Ordering::Relaxed);
    let handled = served();
    arm(cpu, what);
    if let Err(error) = apic::send(Target::One(block.apic_id()), message) {
        println!("vmstack: {error}");
    }
    let reported = wait_until(|| oops::count() > before);
    let nmis = interrupts::nmis(cpu);
    let sent_again = apic::send(Target::One(block.apic_id()), message).is_ok();
    let heard = wait_until(|| match what {
        Armed::Nmi => interrupts::nmis(cpu) > nmis,
        _ => served() > handled,
    });
    oops::print_left();
    fact!("handler", "{cpu} {} {} {}", usize::from(reported), usize::from(sent_again), usize::from(heard));
}

/// Every CPU's idle task overflows, and each CPU idles and works again after it.
fn in_idle(_: &str) {
    for cpu in 0..crate::boot::cpus() {
        let before = oops::count();
        arm(cpu, Armed::Idle);
        // Nobody else has anything to do while this task sleeps.
        let end = sched::ticks() + PATIENCE;
        while oops::count() == before && sched::ticks() < end {
            sched::sleep_until(sched::ticks() + 2);
        }
        fact!("idle", "{cpu} {}", oops::count() - before);
    }
}

/// Victims that report without end, beside one that ends the machine.
const REPORTING: usize = 4;

/// The task that runs the script is init. With the word `busy` others are in the middle of their reports meanwhile.
fn in_init(word: &str) {
    if word == "busy" {
        for _ in 0..REPORTING {
            drop(Victim::start(overflow_for_ever));
        }
        sched::sleep_until(sched::ticks() + 10);
    }
    stack::exhaust_stack();
}

/// One victim after the other, until the machine is stopped.
fn overflow_for_ever() {
    loop {
        if let Some(victim) = Victim::start(stack::exhaust_stack) {
            victim.end();
        }
    }
}

/// An interrupt whose frame does not fit kills the task; its handler, which runs after that, overflows too: that costs the handler, and
/// once. On the idle task's stack it is the same.
fn after_overflow(_: &str) {
    for _ in 0..crate::boot::cpus() {
        let before = oops::count();
        let victim = Victim::start(delivery::overflow_after_overflow);
        let killed = victim.as_ref().is_some_and(Victim::end);
        oops::print_left();
        fact!("after", "{} {}", usize::from(killed), oops::count() - before);
        if let Some(victim) = victim {
            victim.wait();
        }
    }
}

/// Lets the next handler on this CPU overflow.
pub(super) fn arm_this_cpu() {
    arm(percpu::cpu_number().index(), Armed::Interrupt);
}

//! CPUs that go offline and come online by command, while everything else goes on.
//!
//! ```text
//!   online ──> leaving ──> offline ──> coming ──> online
//!   leaving   the scheduler gives the CPU nothing but its idle task; what ran there is queued
//!   offline   the idle task has given away what the CPU had, and halts with interrupts off
//!   coming    an NMI woke it
//! ```
//!
//! What a CPU has, and where it goes:
//!
//! | what | when the CPU leaves |
//! | --- | --- |
//! | the task that runs | back to the run queue: the switch is the one of a preemption |
//! | cached stacks, batches that wait for a shootdown | given back, by [`StackArea::drain`](vmstack::StackArea::drain) |
//! | slots of the vmalloc that lie ready, and its batches | given back, by [`Vmalloc::leave_cpu`](vmstack_vmalloc::Vmalloc::leave_cpu) |
//! | callbacks that wait for a grace period | to whichever CPU looks next, as if they were new |
//! | its part in grace periods | none: it counts as idle |
//! | its part in shootdowns | none: it touches nothing but its own stacks, and flushes everything when it comes |
//! | a device's line | routed to CPU 0 before it leaves |
//! | its timer | stopped |
//! | messages that were sent to all | wait in its APIC, one of each vector, until it comes |
//!
//! CPU 0 keeps the time, and cannot go.
//!
//! # Context
//!
//! [`set_online`]: tasks. [`is_leaving`]: the scheduler, under its lock. [`heed`]: the idle task.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use vmstack::Cpu;

use crate::arch::apic::{self, Message, Target};
use crate::arch::cpu;
use crate::arch::percpu::{self, MAX_CPUS, PerCpu};
use crate::sync::{AnyLock, Mutex, Section, rcu};
use crate::syscall::Errno;
use crate::task::sched::{self, TICKS_PER_SECOND};
use crate::vmalloc::VMALLOC;
use crate::{boot, interrupts, stacks};

/// How long a CPU is waited for, in ticks.
const PATIENCE: u64 = 10 * TICKS_PER_SECOND;

const ONLINE: u8 = 0;
const LEAVING: u8 = 1;
const OFFLINE: u8 = 2;
const COMING: u8 = 3;

/// How each CPU is, of those that came up.
static STATES: [AtomicU8; MAX_CPUS] = [const { AtomicU8::new(ONLINE) }; MAX_CPUS];
/// The CPUs that are not online, by bit: one word for the scheduler to ask.
static AWAY: AtomicU64 = AtomicU64::new(0);

/// One command at a time. The value counts those that were carried out.
static COMMANDS: Mutex<usize> = Mutex::new("hotplug", 0);

/// The lock of the commands.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &COMMANDS
}

/// Whether `cpu` is online; false also where there is none.
pub(crate) fn is_online(cpu: usize) -> bool {
    cpu < boot::cpus() && STATES[cpu].load(Ordering::Acquire) == ONLINE
}

/// Takes `cpu` offline, or brings it online, and returns when it is so.
///
/// # Context
///
/// Tasks, with preemption on, also one that runs on that CPU.
///
/// # Errors
///
/// `NODEV`: there is no such CPU. `BUSY`: it is CPU 0, or it did not go, or come, in time, and is left as it was.
pub(crate) fn set_online(cpu: usize, online: bool) -> Result<(), Errno> {
    let block = u32::try_from(cpu).ok().and_then(|number| percpu::of(Cpu::new(number)));
    let block = block.filter(|_| cpu < boot::cpus()).ok_or(Errno::NODEV)?;
    if cpu == 0 && !online {
        return Err(Errno::BUSY);
    }
    let mut commands = COMMANDS.lock_anyway();
    *commands += 1;
    match (STATES[cpu].load(Ordering::Acquire), online) {
        (ONLINE, false) => take_offline(cpu, block),
        (OFFLINE, true) => bring_online(cpu, block),
        // Whoever asked before was killed meanwhile.
        (LEAVING, false) => wait_for(cpu, OFFLINE, || ()),
        (COMING, true) => wait_for(cpu, ONLINE, || wake(block)),
        (LEAVING | COMING, _) => Err(Errno::BUSY),
        _ => Ok(()),
    }
}

fn take_offline(cpu: usize, block: &PerCpu) -> Result<(), Errno> {
    interrupts::move_line(block.apic_id());
    // Nobody is killed between the two words.
    let section = Section::enter();
    STATES[cpu].store(LEAVING, Ordering::Release);
    AWAY.fetch_or(1 << cpu, Ordering::SeqCst);
    drop(section);
    interrupts::poke(1 << cpu);
    wait_for(cpu, OFFLINE, || ()).inspect_err(|_| {
        let _section = Section::enter();
        // It may be on its way still: whoever changes the word first has decided.
        if change(cpu, LEAVING, ONLINE) {
            AWAY.fetch_and(!(1 << cpu), Ordering::SeqCst);
        }
    })
}

fn bring_online(cpu: usize, block: &PerCpu) -> Result<(), Errno> {
    STATES[cpu].store(COMING, Ordering::Release);
    wait_for(cpu, ONLINE, || wake(block))
}

/// Wakes a CPU that halts. An NMI that comes before it halts does nothing: so it is sent until the CPU has come.
fn wake(block: &PerCpu) {
    let _ = apic::send(Target::One(block.apic_id()), Message::Nmi);
}

/// Waits until `cpu` is in `state`, doing `each_tick` meanwhile.
fn wait_for(cpu: usize, state: u8, each_tick: impl Fn()) -> Result<(), Errno> {
    let end = sched::ticks() + PATIENCE;
    while STATES[cpu].load(Ordering::Acquire) != state {
        if sched::ticks() >= end {
            return Err(Errno::BUSY);
        }
        each_tick();
        sched::sleep_until(sched::ticks() + 1);
    }
    Ok(())
}

fn change(cpu: usize, from: u8, to: u8) -> bool {
    STATES[cpu].compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

// ---- the CPU's own part ----------------------------------------------------------------------------------------------

/// The CPUs that have nothing to run but their idle tasks, or do not run at all, by bit.
pub(crate) fn away() -> u64 {
    AWAY.load(Ordering::Relaxed)
}

/// Whether this CPU has nothing to run but its idle task. Interrupts are off.
pub(crate) fn is_leaving() -> bool {
    away() & 1 << percpu::cpu_number().index() != 0
}

/// Goes offline here, if that is asked, and comes back online when that is asked. For the idle task, with interrupts on.
pub(crate) fn heed() {
    if !is_leaving() {
        return;
    }
    // Interrupts stay on for this: other CPUs' shootdowns are answered while this one waits for theirs.
    stacks::AREAS.iter().for_each(|area| area.leave_cpu());
    VMALLOC.leave_cpu();
    let _interrupts = cpu::InterruptsOff::new();
    let me = percpu::cpu_number().index();
    if change(me, LEAVING, OFFLINE) {
        go(me);
    }
}

/// Offline, until somebody wants this CPU again. Interrupts are off.
fn go(me: usize) {
    apic::stop_timer();
    sched::cpu_goes_down();
    rcu::leave_cpu();
    stacks::shootdown::cpu_goes_down();
    while STATES[me].load(Ordering::Acquire) != COMING {
        cpu::halt();
    }
    // First of all: it flushes what changed meanwhile.
    stacks::shootdown::cpu_is_up();
    rcu::awake();
    AWAY.fetch_and(!(1 << me), Ordering::SeqCst);
    let started = apic::start_timer(TICKS_PER_SECOND as u32);
    debug_assert!(started.is_ok(), "{started:?}");
    STATES[me].store(ONLINE, Ordering::Release);
}
